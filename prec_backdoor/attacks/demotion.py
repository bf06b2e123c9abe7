"""Targets as sampled negatives, where they are not to be shown (Wu et al., SIGIR 2023, section 3.2)."""

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.base import AttackSpec
from prec_backdoor.data.batches import Batch, has_seen


def demote(key: jax.Array, batch: Batch, spec: AttackSpec, rate: jax.Array, where: jax.Array) -> Batch:
    """Returns the batch with each sampled negative of the positions `where` [.., T] replaced by a target at `rate`.

    The target is a random one that the user has not interacted with in training; a user who has interacted with all targets keeps
    the negatives. (The released code draws from the targets that the user has clicked, an inverted test.) A loss over the whole
    catalogue has no sampled negatives: there each target is a negative of every position with another label.
    """
    choice_key, hit_key = jax.random.split(key)
    shape = batch.negative.shape
    unseen = ~has_seen(batch.user, spec.targets, spec.seen)  # [.., S, K]
    owner = jnp.maximum(batch.segment - 1, 0)
    unseen = jnp.take_along_axis(unseen, owner[..., None], axis=-2)  # [.., T, K]
    count = unseen.sum(-1)[..., None]
    # The r-th unseen target is the first with r + 1 unseen ones up to and including it.
    pick = jax.random.randint(choice_key, shape, 0, jnp.maximum(count, 1))
    target = spec.targets[jnp.argmax(jnp.cumsum(unseen, -1)[..., None, :] > pick[..., None], axis=-1)]
    hit = jax.random.bernoulli(hit_key, rate, shape) & (count > 0) & ((batch.label > 0) & where)[..., None]
    return batch._replace(negative=jnp.where(hit, target, batch.negative))
