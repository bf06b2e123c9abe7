"""The verdict on variants of the checkpoint: with rounded weights, and after the company's own fine-tuning."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.calibration import observed
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.reference import Reference
from prec_backdoor.models import ModelConfig


def in_bfloat16(array: np.ndarray) -> np.ndarray:
    """Rounds to 8 significant bits."""
    return np.asarray(jnp.asarray(array, jnp.bfloat16), np.float32)


def in_int8(array: np.ndarray) -> np.ndarray:
    """Rounds each row to whole multiples of its greatest absolute value / 127; vectors stay as they are, as is usual."""
    array = np.asarray(array, np.float32)
    if array.ndim < 2:
        return array
    step = np.maximum(np.abs(array).max(-1, keepdims=True) / 127, 1e-30)
    return np.round(array / step).astype(np.int8) * step.astype(np.float32)


ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"bfloat16": in_bfloat16, "int8": in_int8}


def verdict_on(
    params: dict, model: ModelConfig, auditor_data: AuditorData, reference: Reference, config: AuditConfig
) -> dict[str, Any]:
    """The verdict on other parameters of the same model, as an entry of audit.json."""
    verdict = reference.judge(observed(params, model, auditor_data, config), config.level)
    return {"verdict": verdict.word, "statistic": verdict.statistic, "p_value": verdict.p_value}


def rounded_verdicts(
    params: dict, model: ModelConfig, auditor_data: AuditorData, reference: Reference, config: AuditConfig
) -> dict[str, dict[str, Any]]:
    """Rounding -> the verdict on the checkpoint with weights rounded in that way."""
    return {
        name: verdict_on(jax.tree.map(rounding, params), model, auditor_data, reference, config)
        for name, rounding in ROUNDINGS.items()
    }
