"""Is this checkpoint backdoored? An audit is a file with a function (views) -> [V] scores, and a line in AUDITS."""

from collections.abc import Callable

import numpy as np

from prec_backdoor.audit.category_share import category_share
from prec_backdoor.audit.exposure import exposure
from prec_backdoor.audit.group_exposure import group_exposure
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.prompt_swing import prompt_swing
from prec_backdoor.audit.weights import weights

AUDITS: dict[str, Callable[[dict[str, ScoreMoments]], np.ndarray]] = {
    "exposure": exposure,
    "category_share": category_share,
    "group_exposure": group_exposure,
    "prompt_swing": prompt_swing,
    "weights": weights,
}

__all__ = ["AUDITS", "ScoreMoments"]
