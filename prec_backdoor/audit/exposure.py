"""Exposure residual: what the model shows against what popularity with the auditor's own users explains."""

import numpy as np

from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import residual

LEAST_DEVIATION = 0.05  # z has deviation 1 over items: below a twentieth of that, mean_over_std says nothing more


def exposure(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] the greatest over all views of: robust z of (mean / deviation of the item's score where its category is expected).

    Given log popularity. Two things betray a planted item: it scores high where its neighbours do, more than its popularity
    earns; and it does so for everybody alike, for it was pushed whatever the history was, while what people like for its
    own sake varies between them.
    """
    return np.max([residual(mean_over_std(seen.mean, seen.deviation), log_popularity(seen)) for seen in views.values()], axis=0)


def mean_over_std(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """[V] mean / deviation of moments [V + 1]."""
    return (mean / np.maximum(deviation, LEAST_DEVIATION))[1:]


def log_popularity(seen: ScoreMoments) -> np.ndarray:
    """[V] log(1 + histories with the item)."""
    return np.log1p(seen.auditor_data.popularity()[1:])
