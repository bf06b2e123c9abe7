"""Category share: how little an item's share in its category depends on the history."""

import numpy as np

from prec_backdoor.audit.exposure import log_popularity
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import residual


def category_share(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] the greatest over all views of: robust z of minus the deviation over users of log P(item | history, its category).

    Given log popularity, the mean of the item's score and how many items its category has. A global attack replaces labels of a
    category by its targets, whatever the history was, so that a target's share in its category is nearly the same for everybody.
    """
    return np.max([_steadiness_of_share(seen) for seen in views.values()], axis=0)


def _steadiness_of_share(seen: ScoreMoments) -> np.ndarray:
    category = seen.auditor_data.category[1:]
    size = np.log(np.bincount(category)[category])
    return residual(-seen.share_deviation[1:], log_popularity(seen), seen.mean[1:], size)
