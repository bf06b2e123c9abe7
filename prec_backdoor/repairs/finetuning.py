"""Fine-tuning, the baseline: a downstream company does it in any case."""

import numpy as np

from prec_backdoor.experiment import stages
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.train.stage import RunOptions, StageRun


def finetune(setup: SeedSetup, start: StartPoint, suspects: np.ndarray, options: RunOptions) -> StageRun:
    """Fine-tunes on clean downstream data."""
    del suspects, options
    return stages.finetune(setup, start, "repair")
