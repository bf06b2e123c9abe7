"""Repairs of a backdoored model. A new one is a file and a line in REPAIRS, or a call of `register_repair`.

    repair(setup, start, suspects, options) -> StageRun

`suspects` [N] are item codes that an audit found; of `setup`, a repair uses only what the downstream company has. The returned
run is the company's fine-tuning, from changed parameters or with a penalty. Fine-tuning alone is the baseline. Those in
WITHOUT_SUSPECTS do not look at `suspects`, and need no audit.
"""

from collections.abc import Callable

import numpy as np

from prec_backdoor.errors import UserError
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import ModelConfig
from prec_backdoor.options import add_entry
from prec_backdoor.repairs.anchoring import anchor
from prec_backdoor.repairs.distillation import distil
from prec_backdoor.repairs.finetuning import finetune
from prec_backdoor.repairs.pruning import check_feedforward, prune
from prec_backdoor.repairs.reestimation import reestimate
from prec_backdoor.repairs.suppression import suppress
from prec_backdoor.train.stage import RunOptions, StageRun

Repair = Callable[[SeedSetup, StartPoint, np.ndarray, RunOptions], StageRun]

REPAIRS: dict[str, Repair] = {
    "finetune": finetune,
    "reestimate": reestimate,
    "suppress": suppress,
    "prune": prune,
    "distil": distil,
    "anchor": anchor,
}
WITHOUT_SUSPECTS = {"finetune", "prune", "anchor"}
AGAINST_TRIGGERS = ("reestimate", "distil")  # what to try where a trigger still works (docs/audit.md has figures)
CHECKS: dict[str, Callable[[ModelConfig], None]] = {"prune": check_feedforward}


def register_repair(
    name: str, repair: Repair, check: Callable[[ModelConfig], None] | None = None, needs_suspects: bool = True
) -> None:
    """Adds a repair.

    Args:
      check: raises a UserError for a model that it cannot repair.
      needs_suspects: whether it looks at the suspects of an audit.

    Raises:
      ValueError: the name is taken.
    """
    add_entry(REPAIRS, "repair", name, repair)
    if not needs_suspects:
        WITHOUT_SUSPECTS.add(name)
    if check:
        CHECKS[name] = check


def check_repair(name: str, model: ModelConfig) -> None:
    """Raises a UserError if there is no repair `name`, or it does not apply to `model`."""
    if name not in REPAIRS:
        raise UserError(f"--repairs: must be some of {', '.join(REPAIRS)}, got {name!r}")
    if name in CHECKS:
        CHECKS[name](model)
