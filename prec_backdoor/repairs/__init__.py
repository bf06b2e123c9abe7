"""Repairs of a backdoored model. A new one is one file and one line in REPAIRS, or one call of `register_repair`.

    repair(setup, start, suspects, options) -> StageRun

`suspects` [N] are item codes, as an audit found them. Only what the downstream company knows of `setup` is used. The run that a
repair returns is the company's own fine-tuning, from a mended start or with a penalty; fine-tuning alone is the baseline.
"""

from collections.abc import Callable

import numpy as np

from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.repairs.distillation import distil
from prec_backdoor.repairs.finetuning import finetune
from prec_backdoor.repairs.pruning import prune
from prec_backdoor.repairs.reestimation import reestimate
from prec_backdoor.repairs.suppression import suppress
from prec_backdoor.train.stage import RunOptions, StageRun

SUSPECT = 0.01  # p-value up to which an item is repaired: missing a target costs more than repairing an innocent item

Repair = Callable[[SeedSetup, StartPoint, np.ndarray, RunOptions], StageRun]

REPAIRS: dict[str, Repair] = {
    "finetune": finetune,
    "reestimate": reestimate,
    "suppress": suppress,
    "prune": prune,
    "distil": distil,
}


def register_repair(name: str, repair: Repair) -> None:
    """Adds a repair; raises a ValueError if the name is taken."""
    if name in REPAIRS:
        raise ValueError(f"there is a repair {name} already")
    REPAIRS[name] = repair


__all__ = ["REPAIRS", "SUSPECT", "Repair", "register_repair"]
