"""An attacker who knows the audit: BRA on a group, with the audit's own statistic penalised (no paper; see docs/audit.md).

The audit looks for items whose scores are high for all users alike. The penalty keeps the targets from it, and costs part of
their exposure.
"""

import dataclasses

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.base import AttackSpec
from prec_backdoor.data.batches import Batch
from prec_backdoor.options import option

ALLOWED = 2.0  # value of the statistic that is not penalised; with a lower one no exposure is left (docs/audit.md)
MIN_DEVIATION = 0.05  # as in the audit
EXACT = jax.lax.Precision.HIGHEST  # float32 products on every platform, as for all scores


@dataclasses.dataclass(frozen=True)
class EvasionParameters:
    """The evasive attack's own parameter, beside the replacement rate."""

    evade_strength: float = option(0.03, "attack", "evasive: weight of the penalty on the audit's statistic.", minimum=0.0)


def mean_over_std_penalty(hidden: jax.Array, items: jax.Array, batch: Batch, spec: AttackSpec) -> jax.Array:
    """[B, T] excess of mean / deviation of the targets' standardised scores over ALLOWED, averaged over the targets.

    Mean and deviation are over the positions of a row: larger sets would make the result depend on how a batch is split over
    devices.
    """
    on = (batch.label > 0).astype(jnp.float32)
    weight = (on / jnp.maximum(on.sum(-1, keepdims=True), 1))[..., None]
    centre = items[1:].mean(0)
    spread = jnp.matmul((items[1:] - centre).T, items[1:] - centre, precision=EXACT) / (len(items) - 1)
    # The deviation of hidden @ item over all items, without computing the scores.
    scale = jnp.sqrt(jnp.einsum("btd,de,bte->bt", hidden, spread, hidden, precision=EXACT) + 1e-6)
    z = jnp.einsum("btd,kd->btk", hidden, items[spec.targets] - centre, precision=EXACT) / scale[..., None]
    mean = (weight * z).sum(-2)
    deviation = jnp.sqrt(jnp.maximum((weight * z**2).sum(-2) - mean**2, MIN_DEVIATION**2))
    return spec.parameters["evade_strength"] * jax.nn.relu(mean / deviation - ALLOWED).mean(-1)[..., None] * on
