"""Exact ranks over the full catalogue, tile by tile: no [users, items] array is stored or sorted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor import parallel
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import rank_kernel
from prec_backdoor.evaluation.rank_kernel import doubled_ahead
from prec_backdoor.models import ModelConfig, item_vectors, represent, scoring
from prec_backdoor.parallel.item_table import ITEMS, TableShard, look_up, place, shard_of
from prec_backdoor.parallel.platforms import choices

PARTIAL_COUNTS = 64  # counters per rank, added up at the end; divides a tile. With 32 or fewer, XLA stores what they count
LEAST_USERS = 256  # of a program, or three quarters of it; by powers of two up to `platforms.Choices.rank_users`
LARGE = 20_000  # items from which comparing scores takes as long as the encoder
SHORT = 5_000_000  # calls x items below which no progress bar is shown


def rank_items(
    hidden: jax.Array, items: jax.Array, seen: jax.Array, wanted: jax.Array, shard: TableShard | None = None
) -> jax.Array:
    """Returns ranks [B, Q] float32 of the `wanted` [B, Q] items, for users with vectors `hidden` [B, D].

    rank = 1 + items with a strictly greater score + half of those with an equal one (ties take the mean position). Padding and
    the user's `seen` [B, L] items (0 = none) do not compete; a wanted item that is itself seen is ranked as if it were not.
    Scores are float32 products on every platform. A score that is not a number ranks last: an item without one is behind all
    others, and any other item without one is ahead.

    Every row of every tile is compared. Rows that do not compete are subtracted afterwards, by the score that they had in their
    tile: summed in another order, it could differ in the last bit.

    Args:
      items: [V + 1, D], row 0 is padding; with a `shard` this device's rows of it, and the same users on all devices.
    """
    return _rank(hidden, items, seen, wanted, _scores_of_wanted(hidden, items, wanted, shard), shard)


def _scores_of_wanted(hidden, items, wanted, shard: TableShard | None) -> jax.Array:
    return scoring.scores("bd,bqd->bq", hidden, look_up(items, wanted, shard))


def _rank(hidden, items, seen, wanted, reference, shard: TableShard | None) -> jax.Array:
    """`rank_items`, with the scores `reference` [B, Q] of the wanted items."""
    excluded = jnp.sort(jnp.concatenate([jnp.zeros_like(seen[:, :1]), seen], axis=1), axis=1)
    known = jnp.concatenate([wanted, excluded], axis=1)
    if choices().rank_kernel:
        return 1 + (_count_on_chip(hidden, items, known, reference, shard) + _of_wanted_items(wanted, excluded, reference)) / 2
    doubled, scores = _count_ahead(hidden, items, known, reference, shard)
    own_scores, excluded_scores = jnp.split(scores, [wanted.shape[1]], axis=1)
    doubled -= doubled_ahead(own_scores, reference)
    doubled -= _of_excluded_items(excluded, excluded_scores, wanted, reference)
    doubled -= _of_filler_rows(_filler_rows(items, shard), hidden, reference)
    return 1 + doubled / 2


def _count_ahead(hidden, items, known, reference, shard: TableShard | None) -> tuple[jax.Array, jax.Array]:
    """Compares every row of the table with `reference` [B, Q].

    Returns:
      [B, Q] int32, the sum of `doubled_ahead` over all rows, fillers included, and the scores [B, K] of the `known` [B, K] items
      as computed in their tiles.
    """
    first, axis = (shard.start, shard.axis) if shard else (0, None)

    def add_tile(start, vectors, carry):
        counts, scores_of_known = carry
        scores = scoring.scores("bd,vd->bv", hidden, vectors)
        at = known - first - start  # taken from the tile, as a product by itself rounds differently; a tenth of the time on a CPU
        here = jnp.take_along_axis(scores, jnp.clip(at, 0, len(vectors) - 1), axis=1)
        scores_of_known = jnp.where((at >= 0) & (at < len(vectors)), here, scores_of_known)
        grouped = scores.reshape(len(scores), 1, -1, PARTIAL_COUNTS)
        return counts + doubled_ahead(grouped, reference[:, :, None, None]).sum(2), scores_of_known

    def add_whole_tile(index, carry):
        return add_tile(index * tile, jax.lax.dynamic_slice_in_dim(items, index * tile, tile), carry)

    carry = (jnp.zeros((*reference.shape, PARTIAL_COUNTS), jnp.int32), jnp.zeros(known.shape, jnp.float32))
    tile = choices().rank_tile
    tiles, rest = divmod(len(items), tile)
    if tiles:
        carry = jax.lax.fori_loop(0, tiles, add_whole_tile, carry)
    if rest:
        carry = add_tile(tiles * tile, jnp.pad(items[-rest:], ((0, -rest % PARTIAL_COUNTS), (0, 0))), carry)
    counts, scores = carry
    return parallel.all_sum((counts.sum(-1), scores), axis)


def _count_on_chip(hidden, items, known, reference, shard: TableShard | None) -> jax.Array:
    """Returns [B, Q] int32, the sum of `doubled_ahead` over all items but the `known` [B, K] ones."""
    first, axis, rows = (shard.start, shard.axis, shard.rows - shard.start) if shard else (0, None, len(items))
    counts = rank_kernel.count_ahead(hidden, items, jnp.clip(rows, 0, len(items)), known - first, reference)
    return parallel.all_sum(counts, axis)


def _of_wanted_items(wanted, excluded, reference) -> jax.Array:
    """[B, Q] what the `wanted` [B, Q] items count for among themselves, each once and without `excluded` [B, L + 1] ones."""
    repeated = jnp.tril(wanted[:, :, None] == wanted[:, None, :], -1).any(-1)
    competes = ~repeated & (wanted[:, :, None] != excluded[:, None, :]).all(-1)
    counted = competes[:, None, :] & (wanted[:, :, None] != wanted[:, None, :])
    return jnp.where(counted, doubled_ahead(reference[:, None, :], reference[:, :, None]), 0).sum(-1)


def _of_excluded_items(excluded, scores, wanted, reference) -> jax.Array:
    """[B, Q] what the sorted `excluded` [B, L + 1] items (padding and the history) count for in `_count_ahead`, each item once.

    A wanted item that is excluded itself is left to the correction for the own item.
    """
    first = jnp.diff(excluded, axis=1, prepend=-1) > 0
    counted = first[:, None, :] & (excluded[:, None, :] != wanted[:, :, None])
    return jnp.where(counted, doubled_ahead(scores[:, None, :], reference[:, :, None]), 0).sum(-1)


def _filler_rows(items: jax.Array, shard: TableShard | None) -> int:
    """Number of rows of zeros that `_count_ahead` compares on all devices: those that fill up a tile, or a shard."""
    compared = len(items) + -(len(items) % choices().rank_tile) % PARTIAL_COUNTS
    return compared * jax.lax.axis_size(shard.axis) - shard.rows if shard else compared - len(items)


def _of_filler_rows(number: int, hidden: jax.Array, reference: jax.Array) -> jax.Array:
    """[B, Q] what so many rows of zeros count for in `_count_ahead`."""
    score = (0.0 * hidden.astype(jnp.float32)).sum(-1, keepdims=True)  # 0, unless `hidden` is not finite
    return number * doubled_ahead(score, reference)


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig, shard_items: bool):
    def rank(params, history, profile, wanted, axis):
        """Returns the ranks [B, Q], and [B] whether the scores of the user's wanted items are finite."""
        latest = history[:, -model.max_length :]
        if shard_items:
            shard = shard_of(model.num_items, axis)
            vectors = look_up(params[ITEMS], jnp.append(0, latest), shard)
            rows = jnp.where(latest > 0, 1 + jnp.arange(latest.size).reshape(latest.shape), 0)
            hidden = represent({**params, ITEMS: vectors}, model, rows, profile)
        else:  # each user is ranked on one device; nothing is exchanged
            shard, hidden = None, represent(params, model, latest, profile)
        items = item_vectors(params, model)
        reference = _scores_of_wanted(hidden, items, wanted, shard)
        found = _rank(hidden, items, history, wanted, reference, shard)
        return found, jnp.isfinite(reference).all(-1)

    return parallel.pmap_step(rank, donate=())


def ranks(
    params: dict,
    model: ModelConfig,
    histories: np.ndarray,
    item_ids: np.ndarray,
    profiles: np.ndarray | None = None,
    shard_items: bool = False,
) -> np.ndarray:
    """Returns exact ranks [U, Q] of `item_ids` ([U, Q], or [Q] for all users alike) after `histories` [U, L].

    Histories are 0-padded at the front; a user's history does not compete (see `rank_items`), although the model sees the latest
    max_length items alone. Users are split over all devices, the last batch filled up; with `shard_items` the items are split
    instead, and every device ranks every user among its own.

    Args:
      profiles: [U, A], required by a model with prompts and ignored by any other.

    Raises:
      UserError: the score of a ranked item is not a finite number.
    """
    if profiles is None or not model.prompt_length:
        if model.prompt_length:
            raise ValueError("a model with prompts ranks by profile too; give `profiles`")
        profiles = np.zeros((len(histories), 0), np.int32)
    wanted = np.broadcast_to(item_ids, (len(histories), np.shape(item_ids)[-1]))
    number, (histories, wanted) = wanted.shape[1], _few_shapes(model, histories, wanted)
    shard_items = shard_items and parallel.num_devices() > 1
    users_to, users_from = (parallel.replicate, parallel.unreplicate) if shard_items else (parallel.shard, parallel.gather)
    per_call = -(-_users_at_once(len(histories)) // parallel.num_devices()) * parallel.num_devices()
    placed = place(params, model.num_items, shard_items)
    result, starts = [], range(0, len(histories), per_call)
    short = len(starts) * model.num_items < SHORT
    for start in tqdm(starts, desc="ranking", unit_scale=per_call, unit="user", leave=False, disable=True if short else None):
        users = slice(start, start + per_call)
        missing = per_call - len(histories[users])
        padded = tuple(np.pad(array[users], ((0, missing), (0, 0))) for array in (histories, profiles, wanted))
        batch, finite = (np.asarray(users_from(part)) for part in _compiled(model, shard_items)(placed, *users_to(padded)))
        if not finite[: per_call - missing].all():
            raise UserError("the scores of the model are not finite; if it has just been trained, lower the learning rate")
        result.append(batch[: per_call - missing, :number])
    return np.concatenate(result)


def _users_at_once(number: int) -> int:
    """Returns the users of a call: a power of two, or three quarters of it where that leaves less to fill up in the last call."""
    power = LEAST_USERS << max(0, (number - 1) // LEAST_USERS).bit_length()
    power = min(power, choices().rank_users)
    return min(power, 3 * power // 4, key=lambda size: -(-number // size) * size)


def _few_shapes(model: ModelConfig, histories: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns histories and wanted items with columns of padding, so that two programs serve all queries of a run.

    Histories of more than half of max_length are padded to a multiple of it, others to one of 4. On a small catalogue, where it
    costs little, wanted items are padded to a multiple of 11, the real next item and ten targets.
    """
    (_, length), (_, number), most = histories.shape, wanted.shape, model.max_length
    unit = most if 2 * length > most else min(4, most)
    room = -(-length // unit) * unit
    step = 11 if model.num_items < LARGE else 1
    return np.pad(histories, ((0, 0), (room - length, 0))), np.pad(wanted, ((0, 0), (0, -number % step)))
