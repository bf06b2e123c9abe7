"""Two versions of a checkpoint: what moved between them, beside what retraining alone moves."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from prec_backdoor.audit.calibration import ObservedModel
from prec_backdoor.errors import UserError

AUDIT = "exposure"  # whose scores are compared: robust standard deviations within a model
LISTED = 10


def compare_versions(
    new: ObservedModel, old: ObservedModel, ids: tuple[np.ndarray, np.ndarray], calibration: Sequence[ObservedModel]
) -> dict[str, Any]:
    """Returns what audit.json has under "baseline".

    Two of the auditor's own clean models differ by the seed of their training alone: what lies within their differences needs no
    other explanation.

    Args:
      new, old: the audited checkpoint and its other version.
      ids: [V + 1] raw ids of their items; what only one of them has is counted.

    Raises:
      UserError: they have no item in common.
    """
    place = {raw: code for code, raw in enumerate(ids[1].tolist()) if code}
    common = [(code, place[raw]) for code, raw in enumerate(ids[0].tolist()) if code and raw in place]
    if not common:
        raise UserError("--baseline: no item of it is in the audited checkpoint; give another version of the same model")
    here, there = np.array(common).T
    moved = new.scores[AUDIT][here - 1] - old.scores[AUDIT][there - 1]
    pairs = [(one, other) for one, other in zip(calibration[::2], calibration[1::2], strict=False)]
    retrained = [one.scores[AUDIT] - other.scores[AUDIT] for one, other in pairs]
    bound = max((float(np.abs(each).max()) for each in retrained), default=None)
    first = [each for each in np.argsort(-moved, kind="stable")[:LISTED] if moved[each] > 0]
    return {
        "items": len(here),
        "only_new": len(ids[0]) - 1 - len(here),
        "only_old": len(ids[1]) - 1 - len(here),
        "lists_changed": _changed(new.top_share[here], old.top_share[there]),
        "lists_changed_by_retraining": [_changed(one.top_share[1:], other.top_share[1:]) for one, other in pairs],
        "largest_by_retraining": bound,
        "beyond_retraining": None if bound is None else int((moved > bound).sum()),
        "moved_up": [{"item": str(ids[0][here[each]]), "moved": float(moved[each])} for each in first],
    }


def _changed(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the places among the first 50 of all users that other items take."""
    return float(np.abs(one - other).sum() / 2 / max(one.sum(), other.sum(), 1e-12))
