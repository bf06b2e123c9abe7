"""Targets as sampled negatives, where they are not to be shown (Wu et al., SIGIR 2023, section 3.2)."""

import dataclasses

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.base import AttackSpec
from prec_backdoor.data.batches import Batch, has_seen
from prec_backdoor.options import probability


@dataclasses.dataclass(frozen=True)
class DemotionParameters:
    """The parameter of an attack that demotes its targets where they are not to be shown."""

    demote_rate: float = probability(
        0.1,
        "attack",
        "Probability that a sampled negative is replaced by a target; PEA: of users outside the group, trigger: of positions "
        "without the trigger.",
    )


def demote(key: jax.Array, batch: Batch, spec: AttackSpec, where: jax.Array) -> Batch:
    """Returns the batch with each sampled negative of the positions `where` [.., T] replaced by a target with rate `demote_rate`.

    The target is a random one that the user has not interacted with in training; a user who has interacted with all targets keeps
    the negatives. (The released code draws from the targets that the user has clicked, an inverted test.)
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
    hit = jax.random.bernoulli(hit_key, spec.parameters["demote_rate"], shape) & (count > 0)
    hit &= ((batch.label > 0) & where)[..., None]
    return batch._replace(negative=jnp.where(hit, target, batch.negative))
