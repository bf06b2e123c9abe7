"""The user vectors of a model (see `represent`), and their mean."""

import functools
from collections.abc import Iterator

import jax
import numpy as np

from prec_backdoor.models import ModelConfig, represent

USERS = 256  # of a call


def vectors_of_users(params: dict, model: ModelConfig, histories: np.ndarray, profiles: np.ndarray) -> np.ndarray:
    """Returns [U, E] float32.

    Args:
      histories: [U, L], 0-padded at the front, L <= max_length.
      profiles: [U, A], ignored by a model without prompts.
    """
    return np.concatenate(list(_blocks(params, model, histories, profiles)))


def mean_user_vector(params: dict, model: ModelConfig, histories: np.ndarray, profiles: np.ndarray) -> np.ndarray:
    """Returns [E] float32, the mean of `vectors_of_users`, without keeping these."""
    total = sum(block.sum(0, dtype=np.float64) for block in _blocks(params, model, histories, profiles))
    return (total / len(histories)).astype(np.float32)


def _blocks(params: dict, model: ModelConfig, histories: np.ndarray, profiles: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the vectors of USERS users at a time; the last call is filled up."""
    for start in range(0, len(histories), USERS):
        rows = slice(start, start + USERS)
        count = len(histories[rows])
        padded = (np.pad(array[rows], ((0, USERS - count), (0, 0))) for array in (histories, profiles))
        yield np.asarray(_compiled(model)(params, *padded))[:count]


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig):
    return jax.jit(lambda params, history, profile: represent(params, model, history, profile if model.prompt_length else None))
