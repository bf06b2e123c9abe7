"""Exposure: the score of an item where its category is expected, beyond what its popularity explains."""

import numpy as np

from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import residual

MIN_STD = 0.05  # z has standard deviation 1 over items; below a twentieth of it the ratio mean / std is dominated by noise


def exposure(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] residual of mean / std of the item's z where its category is expected, given log popularity; the maximum over views.

    A planted item differs from others in two ways. Its score is high where its category is expected, higher than its popularity
    explains. And the score varies little between users, because the item was planted whatever the history was.
    """
    return np.max([residual(mean_over_std(view.mean, view.std), log_popularity(view)) for view in views.values()], axis=0)


def mean_over_std(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """[.., V] mean / std of moments [.., V + 1], row 0 dropped."""
    return (mean / np.maximum(std, MIN_STD))[..., 1:]


def log_popularity(moments: ScoreMoments) -> np.ndarray:
    """[V] log(1 + number of histories that contain the item)."""
    return np.log1p(moments.auditor_data.popularity()[1:])
