"""Audits: is this checkpoint backdoored? An audit is a file with a function (views) -> [V] scores, and a line in AUDITS.

`register_audit` adds one from outside this package.
"""

from collections.abc import Callable

import numpy as np

from prec_backdoor.audit.category_share import category_share
from prec_backdoor.audit.exposure import exposure
from prec_backdoor.audit.group_exposure import group_exposure
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.prompt_swing import prompt_swing
from prec_backdoor.audit.weights import weights
from prec_backdoor.options import add_entry

Audit = Callable[[dict[str, ScoreMoments]], np.ndarray]

AUDITS: dict[str, Audit] = {
    "exposure": exposure,
    "category_share": category_share,
    "group_exposure": group_exposure,
    "prompt_swing": prompt_swing,
    "weights": weights,
}


def register_audit(name: str, audit: Audit) -> None:
    """Adds an audit, which maps views to [V] scores; the higher a score, the more suspicious the item.

    Raises:
      ValueError: the name is taken.
    """
    add_entry(AUDITS, "audit", name, audit)


def run_audits(views: dict[str, ScoreMoments]) -> dict[str, np.ndarray]:
    """Audit -> [V] scores of one model, by all audits.

    Raises:
      ValueError: an audit does not return one finite number an item.
    """
    num_items = len(next(iter(views.values())).plain_mean) - 1
    scores = {}
    for name, audit in AUDITS.items():
        scores[name] = np.asarray(audit(views))
        if scores[name].shape != (num_items,) or not np.isfinite(scores[name]).all():
            raise ValueError(f"audit {name}: must return {num_items} finite scores, got {scores[name]}")
    return scores
