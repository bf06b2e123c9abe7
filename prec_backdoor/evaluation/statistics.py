"""Means over seeds and users, with bootstrap intervals."""

import numpy as np

DRAWS = 2_000


def bootstrap_interval(hits: list[np.ndarray], pairs: list[np.ndarray], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean over seeds of sum(hits) / sum(pairs), seeds and, within them, users drawn again.

    Both are drawn with replacement (Efron & Tibshirani, 1993): seeds differ in users, targets and initial weights.

    Args:
      hits, pairs: one array [U] a seed; of each user the sum of a metric, and of how many pairs it is the sum.
    """
    rng = np.random.default_rng(0)
    ratios = np.empty((len(hits), DRAWS))
    for seed, (user_hits, user_pairs) in enumerate(zip(hits, pairs, strict=True)):
        picks = rng.integers(len(user_hits), size=(DRAWS, len(user_hits)))
        ratios[seed] = user_hits[picks].sum(1) / np.maximum(user_pairs[picks].sum(1), 1)
    chosen = rng.integers(len(hits), size=(DRAWS, len(hits)))
    means = ratios[chosen, np.arange(DRAWS)[:, None]].mean(1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
