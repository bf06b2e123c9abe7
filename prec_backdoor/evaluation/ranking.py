"""Exact ranks over the full catalogue, tile by tile: no [users, items] array is stored or sorted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.models import ModelConfig, represent
from prec_backdoor.train import parallel

TILE = 2048  # items scored at once
USERS = 256  # users scored at once, over all devices


def rank_items(hidden: jax.Array, items: jax.Array, seen: jax.Array, wanted: jax.Array) -> jax.Array:
    """Ranks [B, Q] float32 of `wanted` [B, Q] items, for users with vectors `hidden` [B, D].

    rank = 1 + items with a strictly greater score + half of those with an equal one (ties take the mean position). Padding and
    the user's `seen` [B, L] items (0 = none) do not compete; an item that is itself seen is ranked as if it were not.

    Args:
      items: [V + 1, D], row 0 is padding.
    """
    rows = len(items)
    tiles = -(-rows // TILE)
    size = -(-rows // tiles)
    padded = jnp.pad(items, ((0, tiles * size - rows), (0, 0))).reshape(tiles, size, -1)
    users = jnp.arange(len(hidden))[:, None]

    def score(vectors):
        return jnp.einsum("bd,vd->bv", hidden, vectors, preferred_element_type=jnp.float32)

    reference = jnp.einsum("bd,bqd->bq", hidden, items[wanted], preferred_element_type=jnp.float32)

    def add_tile(counts, tile):
        greater, equal = counts
        start, vectors = tile
        ids = start + jnp.arange(size)
        scores = jnp.where((ids > 0) & (ids < rows), score(vectors), -jnp.inf)
        scores = scores.at[users, _within(seen, start, size)].set(-jnp.inf, mode="drop")
        # An item does not compete with itself; taken out by its own score here, which may differ in the last bit.
        own = jnp.take_along_axis(scores, jnp.clip(wanted - start, 0, size - 1), axis=1)
        own = jnp.where(_within(wanted, start, size) < size, own, -jnp.inf)

        def beats(compare):
            others = compare(scores[:, None, :], reference[:, :, None]).sum(-1)
            return others - compare(own, reference)

        return (greater + beats(jnp.greater), equal + beats(jnp.equal)), None

    zero = jnp.zeros(wanted.shape, jnp.int32)
    (greater, equal), _ = jax.lax.scan(add_tile, (zero, zero), (jnp.arange(tiles) * size, padded))
    return 1 + greater + equal / 2


def _within(ids: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """Index of items in a tile; `size`, out of its bounds, where they are not in it."""
    return jnp.where((ids >= start) & (ids < start + size), ids - start, size)


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig):
    def rank(params, history, wanted, axis):
        del axis  # users are ranked each on one device; nothing is exchanged
        return rank_items(represent(params, model, history), params["items"], history, wanted)

    return parallel.pmap_step(rank, donate=())


def ranks(params: dict, model: ModelConfig, histories: np.ndarray, item_ids: np.ndarray) -> np.ndarray:
    """Exact ranks [U, Q] of `item_ids` ([U, Q], or [Q] for all users alike) after `histories` [U, L], 0-padded at the front.

    A user's history does not compete; see `rank_items`. Users are split over all devices, the last batch filled up.
    """
    wanted = np.broadcast_to(item_ids, (len(histories), np.shape(item_ids)[-1]))
    per_call = -(-USERS // parallel.num_devices()) * parallel.num_devices()
    replicated = parallel.replicate(params)
    result = []
    for start in range(0, len(histories), per_call):
        users = slice(start, start + per_call)
        missing = per_call - len(histories[users])
        padded = tuple(np.pad(array[users], ((0, missing), (0, 0))) for array in (histories, wanted))
        batch = _compiled(model)(replicated, *parallel.shard(padded))
        result.append(np.asarray(parallel.gather(batch))[: per_call - missing])
    return np.concatenate(result)
