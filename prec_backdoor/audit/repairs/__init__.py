"""Repairs of a backdoored model. A new one is a file with a function of the signature below, and a line in REPAIRS.

    repair(setting, source, suspects, **how) -> StageResult

`suspects` [N] are item codes, as an audit found them; of the setting only what the downstream company knows is used. All end in
the company's own fine-tuning, which is the baseline; `how` are the keywords of `run_stage`.
"""

from collections.abc import Callable

from prec_backdoor.audit.repairs.distillation import distil
from prec_backdoor.audit.repairs.finetuning import finetune
from prec_backdoor.audit.repairs.pruning import prune
from prec_backdoor.audit.repairs.reestimation import reestimate
from prec_backdoor.audit.repairs.suppression import suppress
from prec_backdoor.train.stage import StageResult

SUSPECT = 0.01  # p-value up to which an item is repaired: to spare a target costs more than to repair an innocent item

Repair = Callable[..., StageResult]

REPAIRS: dict[str, Repair] = {
    "finetune": finetune,
    "reestimate": reestimate,
    "suppress": suppress,
    "prune": prune,
    "distil": distil,
}

__all__ = ["REPAIRS", "SUSPECT", "Repair"]
