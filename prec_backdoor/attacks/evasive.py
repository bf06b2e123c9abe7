"""An attacker who knows the audit: BRA on a group, with a penalty on the audit's statistic (no paper; see docs/audit.md).

The audit looks for items with high scores for all users. The penalty hides the targets from it, at the cost of part of their
exposure.
"""

import dataclasses

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.base import AttackSpec
from prec_backdoor.data.batches import Batch
from prec_backdoor.options import option

ALLOWED = 2.0  # values of the statistic up to this are not penalised; a lower limit leaves no exposure (docs/audit.md)
MIN_DEVIATION = 0.05  # as in the audit
EXACT = jax.lax.Precision.HIGHEST  # float32 products on every platform, as for all scores


@dataclasses.dataclass(frozen=True)
class EvasionParameters:
    """The parameter of the evasive attack, beside the replacement rate."""

    evade_strength: float = option(0.03, "attack", "evasive: weight of the penalty on the audit's statistic.", minimum=0.0)


def mean_over_std_penalty(hidden: jax.Array, items: jax.Array, batch: Batch, spec: AttackSpec) -> jax.Array:
    """Returns [B, T], by how much mean / deviation of the targets' standardised scores exceeds ALLOWED, averaged over targets.

    Mean and deviation are over the positions of a row: over more rows, they would depend on how the batch is split over devices.
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
