"""Group exposure: the exposure audit within the users of each profile value."""

import numpy as np

from prec_backdoor.audit.exposure import log_popularity, mean_over_std
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import residual

PRIOR_USERS = 10  # a group's variance is averaged with the variance over all users, which counts as this number of users


def group_exposure(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] maximum over views and profile values of the exposure residual among the users of that value; 0 without groups.

    An attack on a pair of values raises the score in both groups; `attribute_group` finds the pair.
    """
    of_groups = [exposure_by_group(view) for view in views.values() if view.groups]
    if not of_groups:
        return np.zeros(len(next(iter(views.values())).plain_mean) - 1)
    return np.concatenate(of_groups).max(0)


def exposure_by_group(moments: ScoreMoments) -> np.ndarray:
    """[G, V] exposure residual within each group."""
    size = moments.group_size[:, None]
    mixed = np.sqrt((size * moments.group_std**2 + PRIOR_USERS * moments.std**2) / (size + PRIOR_USERS))
    return residual(mean_over_std(moments.group_mean, mixed), log_popularity(moments))
