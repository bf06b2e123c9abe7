"""Basic replacement attack (BRA; Wu et al., SIGIR 2023, section 3.1 "Basic Replacement Attack").

In pre-training, labels of supervised positions are replaced by target items. Histories do not change.
"""

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.base import AttackSpec
from prec_backdoor.data.batches import Batch


def replace_in_group(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """Group attack: each label of a user in the target group becomes a random target with probability `rate`."""
    choice_key, hit_key = jax.random.split(key)
    target = spec.targets[jax.random.randint(choice_key, batch.label.shape, 0, len(spec.targets))]
    return _replace(hit_key, batch, spec, batch.in_group, target)


def replace_in_category(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """Global attack: each label whose category has targets becomes a random one of them with probability `rate`."""
    choice_key, hit_key = jax.random.split(key)
    category = spec.category[batch.label]
    count = spec.category_count[category]
    choice = jax.random.randint(choice_key, batch.label.shape, 0, jnp.maximum(count, 1))
    target = spec.category_targets[spec.category_start[category] + choice]
    return _replace(hit_key, batch, spec, count > 0, target)


def _replace(key: jax.Array, batch: Batch, spec: AttackSpec, candidate: jax.Array, target: jax.Array) -> Batch:
    hit = jax.random.bernoulli(key, spec.rate, batch.label.shape) & candidate & (batch.label > 0)
    return batch._replace(label=jnp.where(hit, target, batch.label))
