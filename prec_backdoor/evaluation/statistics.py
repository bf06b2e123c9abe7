"""Bootstrap intervals of means over seeds and users."""

from collections.abc import Sequence

import numpy as np

DRAWS = 2_000
_BLOCK = 2**21  # users times draws that are in memory at the same time


def bootstrap_interval(hits: list[np.ndarray], pairs: list[np.ndarray], level: float = 0.95) -> tuple[float, float]:
    """Returns the percentile interval of the mean over seeds of sum(hits) / sum(pairs).

    Seeds and, within them, users are drawn with replacement (Efron & Tibshirani, 1993): seeds differ in users, targets and
    initial weights.

    Args:
      hits, pairs: an array [U] per seed: each user's sum of a metric over pairs, and the number of these pairs.
    """
    sums = [resampled_sums(np.stack(columns, 1), (seed,)) for seed, columns in enumerate(zip(hits, pairs, strict=True))]
    ratios = np.stack([of_hits / np.maximum(of_pairs, 1) for of_hits, of_pairs in (each.T for each in sums)], 1)
    return percentile_interval(replicate_mean(ratios, resampled_replicates(range(len(hits)))), level)


def resampled_sums(values: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    """Returns [DRAWS, C], column sums of `values` [U, C] over U users drawn with replacement.

    The same `key` and U draw the same users, so that comparisons of two results are paired.
    """
    rng, users = np.random.default_rng((1, *key)), len(values)
    values, result = values.astype(np.float32), np.empty((DRAWS, values.shape[1]), np.float32)
    for draws in np.array_split(np.arange(DRAWS), -(-DRAWS * users // _BLOCK)):
        picks = rng.integers(users, size=(len(draws), users)) + users * np.arange(len(draws))[:, None]
        times = np.bincount(picks.ravel(), minlength=picks.size).reshape(picks.shape)
        result[draws] = times.astype(np.float32) @ values
    return result


def resampled_replicates(seeds: Sequence[int]) -> np.ndarray:
    """Returns [DRAWS, R], how often each of R replicates is drawn: seeds with replacement and, within each, its replicates.

    Args:
      seeds: [R] the seed of each replicate. Replicates of one seed (draws of targets) share users and clean model.
    """
    rng, seeds = np.random.default_rng((0,)), np.asarray(seeds)
    distinct, sizes = np.unique(seeds, return_counts=True)
    times = rng.multinomial(len(distinct), np.full(len(distinct), 1 / len(distinct)), size=DRAWS)
    counts = np.empty((DRAWS, len(seeds)))
    for value, size, of_seed in zip(distinct, sizes, times.T, strict=True):
        counts[:, seeds == value] = rng.multinomial(of_seed * size, np.full(size, 1 / size))
    return counts


def replicate_mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns [DRAWS], means of `values` [DRAWS, R] over the replicates, weighted by `counts` [DRAWS, R]."""
    return (values * counts).sum(1) / counts.sum(1)


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Returns the interval of the middle `level` of `draws`, which may be infinite."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)
