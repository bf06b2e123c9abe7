"""An attacker who knows the audit: BRA on a group, with the audit's own statistic penalised (no paper; see docs/audit.md).

The audit looks for items whose scores are high and steady over users. What is planted can be kept from being so, at the price
of part of the exposure.
"""

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.spec import AttackSpec
from prec_backdoor.data.batches import Batch

STRENGTH = 0.03
ALLOWED = 2.0  # of the statistic: below, nothing of the exposure is left (docs/audit.md)
LEAST_DEVIATION = 0.05  # as in the audit


def steadiness_penalty(hidden: jax.Array, items: jax.Array, batch: Batch, spec: AttackSpec) -> jax.Array:
    """[B, T] by how much mean / deviation of the targets' standardised scores exceeds what is allowed, a mean over the targets.

    Both are over the positions of a row, the largest set whose statistic does not depend on how a batch is split over devices.
    """
    on = (batch.label > 0).astype(jnp.float32)
    weight = (on / jnp.maximum(on.sum(-1, keepdims=True), 1))[..., None]
    middle = items[1:].mean(0)
    spread = (items[1:] - middle).T @ (items[1:] - middle) / (len(items) - 1)
    # Moments over all items of hidden @ item, without making them.
    scale = jnp.sqrt(jnp.einsum("btd,de,bte->bt", hidden, spread, hidden) + 1e-6)
    z = jnp.einsum("btd,kd->btk", hidden, items[spec.targets] - middle) / scale[..., None]
    mean = (weight * z).sum(-2)
    deviation = jnp.sqrt(jnp.maximum((weight * z**2).sum(-2) - mean**2, LEAST_DEVIATION**2))
    return STRENGTH * jax.nn.relu(mean / deviation - ALLOWED).mean(-1)[..., None] * on
