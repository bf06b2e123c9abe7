"""Suppression: fine-tuning with a penalty on the scores of suspects."""

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.attacks import AttackSpec
from prec_backdoor.data.batches import Batch
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import scores
from prec_backdoor.train.stage import RunOptions, StageRun

STRENGTH = 1.0


def suppress(setup: SeedSetup, start: StartPoint, suspects: np.ndarray, options: RunOptions) -> StageRun:
    """Fine-tunes with `exposure_penalty` on the suspects."""
    del options
    return stages.finetune(setup._replace(targets=suspects), start, "repair", exposure_penalty)


def exposure_penalty(hidden: jax.Array, items: jax.Array, batch: Batch, spec: AttackSpec) -> jax.Array:
    """[B, T] mean over suspects, `spec.targets`, of softplus(score of the suspect - score of the label).

    A position whose label is a suspect has no penalty for that suspect.
    """
    suspects = scores("btd,kd->btk", hidden, items[spec.targets])
    label = scores("btd,btd->bt", hidden, items[batch.label])
    counted = (batch.label > 0)[..., None] & (batch.label[..., None] != spec.targets)
    return STRENGTH * jnp.where(counted, jax.nn.softplus(suspects - label[..., None]), 0).mean(-1)
