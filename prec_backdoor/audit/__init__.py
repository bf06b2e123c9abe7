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


def register_audit(name: str, audit: Callable[[dict[str, ScoreMoments]], np.ndarray]) -> None:
    """Adds an audit; raises a ValueError if the name is taken."""
    if name in AUDITS:
        raise ValueError(f"there is an audit {name} already")
    AUDITS[name] = audit


__all__ = ["AUDITS", "ScoreMoments", "register_audit"]
