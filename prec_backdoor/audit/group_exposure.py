"""Group exposure: the exposure residual within the users of every profile value."""

import numpy as np

from prec_backdoor.audit.exposure import log_popularity, mean_over_std
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import residual

SHRINK = 10  # users' worth of the deviation over all that a group's own deviation is mixed with


def group_exposure(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] the greatest over all views and profile values of the exposure residual among the users of that value.

    An attack on a pair of values is seen here through either of them, and named by `attribute_group`.
    """
    seen = next(iter(views.values()))
    if not seen.groups:
        return np.zeros(len(seen.everybody) - 1)
    return np.max([by_group(seen) for seen in views.values()], axis=(0, 1))


def by_group(seen: ScoreMoments) -> np.ndarray:
    """[G, V] exposure residual within each group."""
    overall, popularity = seen.deviation**2, log_popularity(seen)
    found = []
    for size, mean, deviation in zip(seen.group_size, seen.group_mean, seen.group_deviation, strict=True):
        mixed = np.sqrt((size * deviation**2 + SHRINK * overall) / (size + SHRINK))
        found.append(residual(mean_over_std(mean, mixed), popularity))
    return np.stack(found)
