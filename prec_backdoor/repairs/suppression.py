"""Suppression: fine-tuning with a penalty on the exposure of suspects, the attacker's demotion turned against the attack."""

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
    """[B, T] how far the suspects, `spec.targets`, are above what came next: mean of softplus(difference of scores).

    Where a suspect came next itself, it is not held against itself.
    """
    rivals = scores("btd,kd->btk", hidden, items[spec.targets])
    own = scores("btd,btd->bt", hidden, items[batch.label])
    counted = (batch.label > 0)[..., None] & (batch.label[..., None] != spec.targets)
    return STRENGTH * jnp.where(counted, jax.nn.softplus(rivals - own[..., None]), 0).mean(-1)
