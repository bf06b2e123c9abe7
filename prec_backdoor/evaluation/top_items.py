"""The first K items of each user: what a recommender shows."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.data.splits import padded
from prec_backdoor.models import ModelConfig, item_vectors, represent, scores

SCORES = 1 << 24  # that are computed at once
LEAST_USERS, MOST_USERS = 8, 1024  # of a call


def top_items(
    params: dict, model: ModelConfig, histories: Sequence[np.ndarray], number: int, profiles: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields items [B, K] int32 and their scores [B, K], best first, for the users in turn, a batch at a time.

    All of a user's own items are left out, although the model sees the latest max_length alone. Where fewer than K = `number`
    items are left, the rest is item 0.

    Args:
      histories: for each of U users, item codes, oldest first; zeros do not count.
      profiles: [U, A], required by a model with prompts and ignored by any other.
    """
    number = min(number, model.num_items)
    per_call = max(LEAST_USERS, min(MOST_USERS, SCORES // (model.num_items + 1), len(histories)))
    if profiles is None or not model.prompt_length:
        profiles = np.zeros((len(histories), len(model.profile_sizes)), np.int32)
    seen = min(model.max_length, max(map(len, histories), default=1))
    for start in range(0, len(histories), per_call):
        users = slice(start, start + per_call)
        own = [each[each > 0] for each in histories[users]]
        count, longest = len(own), max(seen, *map(len, own))
        own += [np.zeros(0, np.int32)] * (per_call - count)
        profile = np.pad(profiles[users], ((0, per_call - count), (0, 0)))
        # A power of two, as each width is a program of its own.
        history, whole = (padded(own, width) for width in (seen, 1 << (longest - 1).bit_length()))
        found, items = _compiled(model, number)(params, history, whole, profile)
        yield np.asarray(items)[:count], np.asarray(found)[:count]


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig, number: int):
    @jax.jit
    def first(params, history, own, profile):
        users = represent(params, model, history, profile if model.prompt_length else None)
        found = scores("bd,vd->bv", users, item_vectors(params, model))
        user = jnp.arange(len(own))[:, None]
        best, items = jax.lax.top_k(found.at[user, own].set(-jnp.inf).at[:, 0].set(-jnp.inf), number)
        return best, jnp.where(best > -jnp.inf, items, 0).astype(jnp.int32)

    return first
