"""Category share: how little an item's share in its category depends on the history."""

import numpy as np

from prec_backdoor.audit.exposure import log_popularity
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import residual


def category_share(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] residual of minus the standard deviation over users of log P(item | history, its category); the maximum over views.

    Covariates are log popularity, the mean of the item's z and the log of its category's size. A global attack replaces labels of
    a category by its targets whatever the history is, so that a target's share in its category is nearly the same for all users.
    """
    return np.max([_steadiness_of_share(view) for view in views.values()], axis=0)


def _steadiness_of_share(moments: ScoreMoments) -> np.ndarray:
    category = moments.auditor_data.category[1:]
    log_size = np.log(np.bincount(category)[category])
    return residual(-moments.share_std[1:], log_popularity(moments), moments.mean[1:], log_size)
