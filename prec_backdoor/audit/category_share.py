"""Category share: how little an item's share in its category depends on the history."""

import numpy as np

from prec_backdoor.audit.exposure import log_popularity
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import residual

LEAST = 5  # items of a category, for shares in it to say something


def category_share(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] residual of minus the standard deviation over users of log P(item | history, its category); the maximum over views.

    Covariates are log popularity, the mean of the item's z and the log of its category's size. A global attack replaces labels of
    a category by its targets whatever the history is, so that a target's share in its category is nearly the same for all users.
    An item of a category of fewer than LEAST items has 0: what the others do not take it has, attacked or not.
    """
    return np.max([_steadiness_of_share(view) for view in views.values()], axis=0)


def _steadiness_of_share(moments: ScoreMoments) -> np.ndarray:
    category = moments.auditor_data.category[1:]
    size = np.bincount(category)[category]
    found = residual(-moments.share_std[1:], log_popularity(moments), moments.mean[1:], np.log(size))
    return np.where(size < LEAST, 0.0, found)
