"""Made-up sequences that can be learnt: few items are popular, and items have habitual successors."""

from typing import NamedTuple

import numpy as np

from prec_backdoor.benchmark.job import MEAN_SHARE, TARGETS, Job

ZIPF = 0.8  # popularity falls as rank ** -ZIPF
FOLLOW = 0.6  # chance that the next item is the successor of the last


class Data(NamedTuple):
    """Sequences of U users, with P + U items in all.

    Attributes:
      items: [P + U] int32 codes 1..V, one user's sequence after another, oldest first.
      offsets: [U + 1] int64; user u has items[offsets[u]:offsets[u + 1]], one more than positions to be trained.
    """

    items: np.ndarray
    offsets: np.ndarray

    def positions(self) -> np.ndarray:
        """[U] int64, items that have a next one."""
        return np.diff(self.offsets) - 1


class Queries(NamedTuple):
    """What is to be ranked: `history` [U, T] int32, 0-padded at the front, and `wanted` [U, 1 + TARGETS], true item first."""

    history: np.ndarray
    wanted: np.ndarray


def make_data(job: Job) -> Data:
    """The same data for the same sizes and seed: numpy alone."""
    rng = np.random.default_rng(job.seed)
    lengths = 1 + _positions(rng, job)
    shares = np.cumsum(np.arange(1, job.items + 1) ** -ZIPF)
    shares /= shares[-1]

    def popular(size) -> np.ndarray:
        return np.minimum(np.searchsorted(shares, rng.random(size)), job.items - 1)

    successor = popular(job.items)
    code = 1 + rng.permutation(job.items).astype(np.int32)  # or neighbours in memory would be alike in popularity
    walk = np.zeros((lengths.max(), job.users), np.int64)
    walk[0] = popular(job.users)
    for step in range(1, len(walk)):
        walk[step] = np.where(rng.random(job.users) < FOLLOW, successor[walk[step - 1]], popular(job.users))
    items = code[walk.T[np.arange(len(walk)) < lengths[:, None]]]
    return Data(items, np.concatenate([[0], np.cumsum(lengths)]))


def make_queries(job: Job, data: Data) -> Queries:
    """Every user's last item after what came before, and the same TARGETS random items for all."""
    history = padded(data, job.max_length, front=True)
    targets = np.random.default_rng([job.seed, 1]).integers(1, job.items + 1, TARGETS, np.int32)
    truth = data.items[data.offsets[1:] - 1]
    return Queries(history, np.column_stack([truth, np.tile(targets, (job.users, 1))]))


def padded(data: Data, length: int, front: bool) -> np.ndarray:
    """[U, length] int32: sequences without their last item, 0-padded at the front or the back."""
    positions = data.positions()
    column = np.arange(length)
    filled = column >= length - positions[:, None] if front else column < positions[:, None]
    last = np.ones(len(data.items), bool)
    last[data.offsets[1:] - 1] = False
    result = np.zeros(filled.shape, np.int32)
    result[filled] = data.items[last]
    return result


def _positions(rng: np.random.Generator, job: Job) -> np.ndarray:
    """[U] from 1 to max_length, mostly short: geometric, cut off at the longest, with the mean asked for."""
    wanted = max(1.0, MEAN_SHARE * job.max_length)
    mean = wanted
    for _ in range(50):  # the mean before cutting; settles as the right-hand side hardly grows with it
        mean = max(1.0, wanted / (1 - (1 - 1 / mean) ** job.max_length))
    return np.minimum(rng.geometric(1 / mean, job.users), job.max_length)
