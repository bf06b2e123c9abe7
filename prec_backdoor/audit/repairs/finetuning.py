"""Fine-tuning, the baseline: what a downstream company does anyhow."""

import numpy as np

from prec_backdoor import pipeline
from prec_backdoor.pipeline import Source
from prec_backdoor.setting import Setting
from prec_backdoor.train.stage import StageResult


def finetune(setting: Setting, source: Source, suspects: np.ndarray, **how) -> StageResult:
    """Fine-tunes on clean downstream data and hopes that the backdoor is forgotten."""
    del suspects
    return pipeline.finetune(setting, source, "repair", **how)
