"""Prompt swing: what the provider's prompt does to an item for some users more than for others."""

import numpy as np

from prec_backdoor.audit.exposure import log_popularity
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.views import AS_IT_COMES, WITHOUT_PROMPT


def prompt_swing(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] the greatest over all profile values of how far the prompt lifts an item for its users beyond everybody else.

    A difference of differences: (within the group - the rest) with the prompt, less the same without it, so that the taste of the
    group, which shows in its histories, drops out. In robust standard deviations of items of like popularity: a clean prompt
    moves popular items further than others. 0 where there is no prompt.
    """
    seen = views[AS_IT_COMES]
    if WITHOUT_PROMPT not in views or not seen.groups:
        return np.zeros(len(seen.everybody) - 1)
    return swing_by_group(seen, views[WITHOUT_PROMPT]).max(0)


def swing_by_group(prompted: ScoreMoments, plain: ScoreMoments) -> np.ndarray:
    """[G, V] of each group, see `prompt_swing`."""
    popularity = log_popularity(prompted)
    return np.stack([in_spreads(swing, popularity) for swing in _contrast(prompted) - _contrast(plain)])


def in_spreads(values: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """[V] centred `values` in units of their spread, whose logarithm is a quadratic function of `popularity`."""
    centred = values - np.median(values)
    size = np.log(np.abs(centred) + np.quantile(np.abs(centred), 0.2) + 1e-9)
    scaled = centred / np.exp(np.polyval(np.polyfit(popularity, size, 2), popularity))
    return scaled / max(1.4826 * np.median(np.abs(scaled)), 1e-9)


def _contrast(seen: ScoreMoments) -> np.ndarray:
    rest = 1 - seen.group_size[:, None] / len(seen.hidden)
    return (seen.group_mean - seen.everybody)[:, 1:] / rest
