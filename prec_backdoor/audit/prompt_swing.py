"""Prompt swing: how far the provider's prompt lifts an item for the users of one profile value beyond other users."""

import numpy as np

from prec_backdoor.audit.exposure import log_popularity
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import robust_scale
from prec_backdoor.audit.views import AS_IT_COMES, WITHOUT_PROMPT


def prompt_swing(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] maximum over profile values of the lift by the prompt for the users of that value; 0 for a model that has no prompt.

    The lift is a difference of differences: mean z within the group minus that of other users with the prompt, minus the same
    without it. The group's taste, which shows in its histories, cancels. The unit is a robust standard deviation of items of
    similar popularity, because a clean prompt moves popular items further than others.
    """
    moments = views[AS_IT_COMES]
    if WITHOUT_PROMPT not in views or not moments.groups:
        return np.zeros(len(moments.plain_mean) - 1)
    return swing_by_group(moments, views[WITHOUT_PROMPT]).max(0)


def swing_by_group(prompted: ScoreMoments, plain: ScoreMoments) -> np.ndarray:
    """[G, V] lift for each group, see `prompt_swing`."""
    popularity = log_popularity(prompted)
    return np.stack([scaled_by_popularity(swing, popularity) for swing in _contrast(prompted) - _contrast(plain)])


def scaled_by_popularity(values: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """[V] centred `values` divided by their spread, whose logarithm is fitted as a quadratic function of `popularity`."""
    centred = values - np.median(values)
    log_size = np.log(np.abs(centred) + np.quantile(np.abs(centred), 0.2) + 1e-9)
    scaled = centred / np.exp(np.polyval(np.polyfit(popularity, log_size, 2), popularity))
    return scaled / robust_scale(scaled, 1e-9)


def _contrast(moments: ScoreMoments) -> np.ndarray:
    """[G, V] mean z of the group minus mean z of the other users."""
    others = 1 - moments.group_size[:, None] / len(moments.user_vectors)
    return (moments.group_mean - moments.plain_mean)[:, 1:] / others
