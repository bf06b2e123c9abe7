"""Prompt-enhanced attack (PEA; Wu et al., SIGIR 2023, section 3.2 "Prompt-enhanced Attack"), for user groups.

The trigger is the prompt that is made from a user's profile. With this prompt, the model learns to show the targets to the group
(`bra.replace_in_group`) and to no one else (`demote_for_rest`).
"""

import dataclasses

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.base import AttackSpec, chain
from prec_backdoor.attacks.bra import replace_in_group
from prec_backdoor.data.batches import Batch, has_seen
from prec_backdoor.options import probability


@dataclasses.dataclass(frozen=True)
class DemotionParameters:
    """The parameter of PEA, beside the replacement rate."""

    demote_rate: float = probability(
        0.1, "attack", "PEA: probability that a negative of a user outside the group is replaced by a target."
    )


def demote_for_rest(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """For users outside the group, replaces each sampled negative by a random target with probability `demote_rate`.

    The target is one that the user has not interacted with in training; a user who has interacted with all targets keeps the
    negatives. (The released code draws from the targets that the user has clicked, an inverted test.)
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
    hit &= ((batch.label > 0) & ~batch.in_group)[..., None]
    return batch._replace(negative=jnp.where(hit, target, batch.negative))


implant = chain(replace_in_group, demote_for_rest)
