"""Names of usages, segments of users and metrics, as results.json and reports have them."""

from collections.abc import Sequence
from typing import NamedTuple

from prec_backdoor.errors import UserError

USAGES = {"zero_shot": "zero-shot", "prompt_tune": "prompt-tuned", "fine_tune": "fine-tuned"}
SEGMENTS = {"all": "all users", "target": "target group", "rest": "everybody else"}
CUTOFFS = (5, 10, 20, 50)  # of exposure, of which the first two and the last that a run has are shown
ACCURACY_AT = 10
ACCURACY, RANKING = f"hr@{ACCURACY_AT}", f"ndcg@{ACCURACY_AT}"
ACCURACIES = (ACCURACY, RANKING)
EXPOSURE = "exposure"  # HR at the last cut-off shown, by which models are compared
# Estimates that compare models, by EXPOSURE and ACCURACY.
DIFFERENCE, RATIO, SELECTIVITY, LOST, LEFT = "difference", "ratio", "selectivity", "lost", "left"
ABOVE_POPULARITY = "above popularity"  # difference in RANKING to ranking by popularity


class Cutoffs(NamedTuple):
    """The cut-offs K of exposure that a report shows; all models of the run have them."""

    shown: tuple[int, ...]
    triggered: bool = False  # whether exposure with a trigger in the history was measured of some model

    @property
    def last(self) -> int:
        return self.shown[-1]

    @property
    def exposure(self) -> str:
        """Name of EXPOSURE in results.json."""
        return f"exposure_hr@{self.last}"

    @property
    def exposures(self) -> tuple[str, ...]:
        return tuple(f"exposure_{metric}@{k}" for metric in ("hr", "ndcg") for k in self.shown) + self.with_trigger

    @property
    def with_trigger(self) -> tuple[str, ...]:
        return tuple(f"exposure_triggered_hr@{k}" for k in self.shown if self.triggered)


def cutoffs_of(rows: Sequence[dict]) -> Cutoffs:
    """Returns the cut-offs that reports of these rows of results.json show.

    Raises:
      UserError: a row has no HR@10.
    """
    common = [k for k in CUTOFFS if all(f"exposure_hr@{k}" in row for row in rows)]
    if ACCURACY_AT not in common:
        raise UserError(f"results.json: a row has no HR@{ACCURACY_AT}; take a larger catalogue or shorter histories")
    triggered = any(row.get(f"exposure_triggered_hr@{ACCURACY_AT}") is not None for row in rows)
    return Cutoffs((*common[:2], *common[2:][-1:]), triggered)
