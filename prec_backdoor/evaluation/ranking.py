"""Exact ranks over the full catalogue, tile by tile: no [users, items] array is stored or sorted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor import parallel
from prec_backdoor.models import ModelConfig, represent
from prec_backdoor.parallel.item_table import ITEMS, TableShard, look_up, place, shard_of

TILE = 1024  # items scored at once: their scores stay in the cache
LANES = 64  # counts kept side by side, a divisor of TILE: XLA writes out what it sums if there are more than 32 of them
USERS = 256  # users scored at once, over all devices
SHORT = 5_000_000  # calls x items below which no progress bar is worth its while


def rank_items(
    hidden: jax.Array, items: jax.Array, seen: jax.Array, wanted: jax.Array, part: TableShard | None = None
) -> jax.Array:
    """Ranks [B, Q] float32 of `wanted` [B, Q] items, for users with vectors `hidden` [B, D].

    rank = 1 + items with a strictly greater score + half of those with an equal one (ties take the mean position). Padding and
    the user's `seen` [B, L] items (0 = none) do not compete; an item that is itself seen is ranked as if it were not.

    All rows of a tile are compared; what does not compete is taken off at the end, by its own score in its tile, as another
    order of summing might give another last bit.

    Args:
      items: [V + 1, D], row 0 is padding; or this device's `part` of it, and then the users are the same on all devices.
    """
    number = wanted.shape[1]
    tiles, rest = divmod(len(items), TILE)
    filling = -rest % LANES
    known = jnp.concatenate([wanted, jnp.zeros_like(seen[:, :1]), seen], axis=1)
    first, axis = (part.start, part.axis) if part else (0, None)
    reference = jnp.einsum("bd,bqd->bq", hidden, look_up(items, wanted, part), preferred_element_type=jnp.float32)

    def ahead(scores, against):
        """1 where the score is ahead, for an equal one half; twice that, in whole numbers."""
        return (scores > against).astype(jnp.int32) + (scores >= against).astype(jnp.int32)

    def add_tile(start, vectors, carry):
        counts, scores_of_known = carry
        scores = jnp.einsum("bd,vd->bv", hidden, vectors, preferred_element_type=jnp.float32)
        at = known - first - start
        here = jnp.take_along_axis(scores, jnp.clip(at, 0, len(vectors) - 1), axis=1)
        scores_of_known = jnp.where((at >= 0) & (at < len(vectors)), here, scores_of_known)
        lanes = scores.reshape(len(scores), 1, -1, LANES)
        return counts + ahead(lanes, reference[:, :, None, None]).sum(2), scores_of_known

    def add_whole_tile(index, carry):
        return add_tile(index * TILE, jax.lax.dynamic_slice_in_dim(items, index * TILE, TILE), carry)

    carry = (jnp.zeros((*wanted.shape, LANES), jnp.int32), jnp.zeros(known.shape, jnp.float32))
    if tiles:
        carry = jax.lax.fori_loop(0, tiles, add_whole_tile, carry)
    if rest:
        carry = add_tile(tiles * TILE, jnp.pad(items[-rest:], ((0, filling), (0, 0))), carry)
    counts, scores = parallel.all_sum((carry[0].sum(-1), carry[1]), axis)
    empty = filling  # rows that were compared and stand for no item
    if part:
        empty = (len(items) + filling) * jax.lax.axis_size(axis) - part.rows
    own, others, ids = scores[:, :number], scores[:, number:], known[:, number:]
    again = jnp.tril(ids[:, :, None] == ids[:, None, :], -1).any(-1)  # an item seen twice is taken off once
    off = ~again[:, None, :] & (ids[:, None, :] != wanted[:, :, None])
    counts -= jnp.where(off, ahead(others[:, None, :], reference[:, :, None]), 0).sum(-1)
    counts -= ahead(own, reference)
    counts -= empty * ahead(0.0, reference)
    return 1 + counts / 2


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig, shard_items: bool):
    def rank(params, history, profile, wanted, axis):
        if not shard_items:  # users are ranked each on one device; nothing is exchanged
            return rank_items(represent(params, model, history, profile), params[ITEMS], history, wanted)
        part = shard_of(model.num_items, axis)
        met = look_up(params[ITEMS], jnp.append(0, history), part)
        places = jnp.where(history > 0, 1 + jnp.arange(history.size).reshape(history.shape), 0)
        hidden = represent({**params, ITEMS: met}, model, places, profile)
        return rank_items(hidden, params[ITEMS], history, wanted, part)

    return parallel.pmap_step(rank, donate=())


def ranks(
    params: dict,
    model: ModelConfig,
    histories: np.ndarray,
    item_ids: np.ndarray,
    profiles: np.ndarray | None = None,
    shard_items: bool = False,
) -> np.ndarray:
    """Exact ranks [U, Q] of `item_ids` ([U, Q], or [Q] for all users alike) after `histories` [U, L], 0-padded at the front.

    A user's history does not compete; see `rank_items`. Users are split over all devices, the last batch filled up; with
    `shard_items` it is the items that are split, and every device ranks every user among its own.

    Args:
      profiles: [U, A], needed by a model with prompts and not used by any other.
    """
    if profiles is None or not model.prompt_length:
        if model.prompt_length:
            raise ValueError("a model with prompts ranks by profile too; give `profiles`")
        profiles = np.zeros((len(histories), 0), np.int32)
    wanted = np.broadcast_to(item_ids, (len(histories), np.shape(item_ids)[-1]))
    shard_items = shard_items and parallel.num_devices() > 1
    users_to, users_from = (parallel.replicate, parallel.unreplicate) if shard_items else (parallel.shard, parallel.gather)
    per_call = -(-USERS // parallel.num_devices()) * parallel.num_devices()
    placed = place(params, model.num_items, shard_items)
    result, starts = [], range(0, len(histories), per_call)
    short = len(starts) * model.num_items < SHORT
    for start in tqdm(starts, desc="ranking", unit_scale=per_call, unit="user", leave=False, disable=True if short else None):
        users = slice(start, start + per_call)
        missing = per_call - len(histories[users])
        padded = tuple(np.pad(array[users], ((0, missing), (0, 0))) for array in (histories, profiles, wanted))
        batch = _compiled(model, shard_items)(placed, *users_to(padded))
        result.append(np.asarray(users_from(batch))[: per_call - missing])
    return np.concatenate(result)
