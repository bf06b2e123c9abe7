"""Intervals of means over seeds and users: bootstrap, and exact ones where a bootstrap has nothing to resample."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv  # scipy.stats has it as beta.ppf, but takes a second to import

DRAWS = 2_000
FEW = 5  # hits, misses or users, below which a bootstrap does not know how wide its interval should be
_BLOCK = 2**21  # users times draws that are in memory at the same time


def bootstrap_interval(hits: list[np.ndarray], pairs: list[np.ndarray], level: float = 0.95) -> tuple[float, float]:
    """Returns the percentile interval of the mean over seeds of sum(hits) / sum(pairs).

    Seeds and, within them, users are drawn with replacement (Efron & Tibshirani, 1993): seeds differ in users, targets and
    initial weights. With few hits, misses or users the interval is at least the exact one (`binomial_interval`) of as many trials
    as there are users with pairs: pairs of one user are not independent.

    Args:
      hits, pairs: an array [U] per seed: each user's sum of a metric over pairs, and the number of these pairs.
    """
    sums = [resampled_sums(np.stack(columns, 1), (seed,)) for seed, columns in enumerate(zip(hits, pairs, strict=True))]
    ratios = np.stack([of_hits / np.maximum(of_pairs, 1) for of_hits, of_pairs in (each.T for each in sums)], 1)
    low, high = percentile_interval(replicate_mean(ratios, resampled_replicates(range(len(hits)))), level)
    mean = float(np.mean([of_hits.sum() / max(of_pairs.sum(), 1) for of_hits, of_pairs in zip(hits, pairs, strict=True)]))
    all_hits, all_pairs, users = (sum(map(np.sum, each)) for each in (hits, pairs, [of_pairs > 0 for of_pairs in pairs]))
    if is_few(all_hits, all_pairs - all_hits, users):
        exact = binomial_interval(mean, users, level)
        low, high = min(low, exact[0]), max(high, exact[1])
    return low, high


def is_few(hits: float, misses: float, users: int) -> bool:
    """Returns whether a bootstrap needs the exact interval beside it."""
    return min(hits, misses, users) < FEW


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


class Estimate(NamedTuple):
    """A value and its interval."""

    mean: float
    low: float
    high: float

    def cover(self, other: tuple[float, float]) -> "Estimate":
        """Returns the estimate with its interval extended to the `other` (low, high)."""
        return Estimate(self.mean, min(self.low, other[0]), max(self.high, other[1]))


def binomial_interval(share: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Returns the exact interval of a share of successes in independent trials (Clopper & Pearson, 1934).

    For a mean of values in 0..1 it is conservative: no such values vary more than zeros and ones. The number of successes,
    `share` * `trials`, need not be whole.
    """
    tail, hits = (1 - level) / 2, share * trials
    low = betaincinv(hits, trials - hits + 1, tail) if hits > 0 else 0.0
    high = betaincinv(hits + 1, trials - hits, 1 - tail) if hits < trials else 1.0
    return float(low), float(high)


def difference_interval(first: Estimate, second: Estimate) -> tuple[float, float]:
    """Returns the interval of `first` - `second` from their own intervals (MOVER: Zou & Donner, 2008), as if independent."""
    difference = first.mean - second.mean
    low = difference - math.hypot(first.mean - first.low, second.high - second.mean)
    high = difference + math.hypot(first.high - first.mean, second.mean - second.low)
    return low, high


def ratio_interval(first: Estimate, second: Estimate) -> tuple[float, float]:
    """Returns the interval of `first` / `second` from their own intervals, neither negative (MOVER: Donner & Zou, 2012).

    The upper end is infinite if `second` may be 0. A ratio r is in the interval if 0 is in that of first - r * second.
    """

    def equation(of_first: float, of_second: float) -> tuple[float, float, float]:
        """The ends solve a * ratio^2 - 2 * product * ratio + b = 0."""
        product = first.mean * second.mean
        a, b = of_second * (2 * second.mean - of_second), of_first * (2 * first.mean - of_first)
        return a, b, product + math.sqrt(max(product**2 - a * b, 0.0))

    _, b, root = equation(first.low, second.high)
    low = b / root if root > 0 else 0.0
    a, _, root = equation(first.high, second.low)
    return low, root / a if a > 0 else math.inf
