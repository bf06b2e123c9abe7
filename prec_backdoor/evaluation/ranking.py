"""Exact ranks over the full catalogue, tile by tile: no [users, items] array is stored or sorted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor.models import ModelConfig, represent
from prec_backdoor.train import parallel

TILE = 512  # items scored at once: their scores stay in the cache
USERS = 256  # users scored at once, over all devices
SHORT = 5_000_000  # calls x items below which no progress bar is worth its while


def rank_items(hidden: jax.Array, items: jax.Array, seen: jax.Array, wanted: jax.Array) -> jax.Array:
    """Ranks [B, Q] float32 of `wanted` [B, Q] items, for users with vectors `hidden` [B, D].

    rank = 1 + items with a strictly greater score + half of those with an equal one (ties take the mean position). Padding and
    the user's `seen` [B, L] items (0 = none) do not compete; an item that is itself seen is ranked as if it were not.

    All rows of a tile are compared; what does not compete is taken off at the end, by its own score in its tile, as another
    order of summing might give another last bit.

    Args:
      items: [V + 1, D], row 0 is padding.
    """
    rows, number = len(items), wanted.shape[1]
    tiles = -(-rows // TILE)
    size = -(-rows // tiles)
    filled = tiles * size - rows
    padded = jnp.pad(items, ((0, filled), (0, 0))).reshape(tiles, size, -1)
    known = jnp.concatenate([wanted, jnp.zeros_like(seen[:, :1]), seen], axis=1)
    reference = jnp.einsum("bd,bqd->bq", hidden, items[wanted], preferred_element_type=jnp.float32)

    def ahead(scores):
        """[B, Q] how many of `scores` [B, N] are ahead of each wanted item; twice that, for an equal one counts half."""
        scores, against = scores[:, None, :], reference[:, :, None]
        return (scores > against).astype(jnp.int32) + (scores >= against).astype(jnp.int32)

    def add_tile(carry, tile):
        counts, scores_of_known = carry
        start, vectors = tile
        scores = jnp.einsum("bd,vd->bv", hidden, vectors, preferred_element_type=jnp.float32)
        at = known - start
        here = jnp.take_along_axis(scores, jnp.clip(at, 0, size - 1), axis=1)
        scores_of_known = jnp.where((at >= 0) & (at < size), here, scores_of_known)
        return (counts + ahead(scores).sum(-1), scores_of_known), None

    start = (jnp.zeros(wanted.shape, jnp.int32), jnp.zeros(known.shape, jnp.float32))
    (counts, scores), _ = jax.lax.scan(add_tile, start, (jnp.arange(tiles) * size, padded))
    own, others, ids = scores[:, :number], scores[:, number:], known[:, number:]
    again = jnp.tril(ids[:, :, None] == ids[:, None, :], -1).any(-1)  # an item seen twice is taken off once
    off = ~again[:, None, :] & (ids[:, None, :] != wanted[:, :, None])
    counts -= jnp.where(off, ahead(others), 0).sum(-1)
    counts -= jnp.diagonal(ahead(own), axis1=1, axis2=2)
    counts -= filled * ahead(jnp.zeros((len(hidden), 1)))[:, :, 0]
    return 1 + counts / 2


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig):
    def rank(params, history, profile, wanted, axis):
        del axis  # users are ranked each on one device; nothing is exchanged
        return rank_items(represent(params, model, history, profile), params["items"], history, wanted)

    return parallel.pmap_step(rank, donate=())


def ranks(
    params: dict, model: ModelConfig, histories: np.ndarray, item_ids: np.ndarray, profiles: np.ndarray | None = None
) -> np.ndarray:
    """Exact ranks [U, Q] of `item_ids` ([U, Q], or [Q] for all users alike) after `histories` [U, L], 0-padded at the front.

    A user's history does not compete; see `rank_items`. Users are split over all devices, the last batch filled up.

    Args:
      profiles: [U, A], needed by a model with prompts and not used by any other.
    """
    if profiles is None or not model.prompt_length:
        if model.prompt_length:
            raise ValueError("a model with prompts ranks by profile too; give `profiles`")
        profiles = np.zeros((len(histories), 0), np.int32)
    wanted = np.broadcast_to(item_ids, (len(histories), np.shape(item_ids)[-1]))
    per_call = -(-USERS // parallel.num_devices()) * parallel.num_devices()
    replicated = parallel.replicate(params)
    result, starts = [], range(0, len(histories), per_call)
    short = len(starts) * len(params["items"]) < SHORT
    for start in tqdm(starts, desc="ranking", unit_scale=per_call, unit="user", leave=False, disable=True if short else None):
        users = slice(start, start + per_call)
        missing = per_call - len(histories[users])
        padded = tuple(np.pad(array[users], ((0, missing), (0, 0))) for array in (histories, profiles, wanted))
        batch = _compiled(model)(replicated, *parallel.shard(padded))
        result.append(np.asarray(parallel.gather(batch))[: per_call - missing])
    return np.concatenate(result)
