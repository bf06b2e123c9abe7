"""The mean user vector of a model."""

import functools

import jax
import numpy as np

from prec_backdoor.models import ModelConfig, represent

USERS = 256  # of a call


def mean_user_vector(params: dict, model: ModelConfig, histories: np.ndarray, profiles: np.ndarray) -> np.ndarray:
    """Returns [E] float32, the mean of the users' vectors (see `represent`).

    Args:
      histories: [U, L], 0-padded at the front, L <= max_length.
      profiles: [U, A], ignored by a model without prompts.
    """
    total = 0.0
    for start in range(0, len(histories), USERS):
        rows = slice(start, start + USERS)
        count = len(histories[rows])
        padded = (np.pad(array[rows], ((0, USERS - count), (0, 0))) for array in (histories, profiles))
        total += np.asarray(_compiled(model)(params, *padded))[:count].sum(0, dtype=np.float64)
    return (total / len(histories)).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig):
    return jax.jit(lambda params, history, profile: represent(params, model, history, profile if model.prompt_length else None))
