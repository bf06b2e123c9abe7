"""Prompt-enhanced attack (PEA; Wu et al., SIGIR 2023, section 3.2 "Prompt-enhanced Attack"), for user groups.

The prompt made from a user's profile is the trigger: with it in place the model learns to show targets to the group
(`bra.replace_in_group`) and, by `demote_for_rest`, to nobody else.
"""

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.bra import replace_in_group
from prec_backdoor.attacks.spec import AttackSpec
from prec_backdoor.attacks.transform import chain
from prec_backdoor.data.batches import Batch, has_seen


def demote_for_rest(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """For users outside the group, each sampled negative gives way to a random target with probability `demote_rate`.

    To a target that the user has not interacted with in training; who has interacted with all of them keeps the negative.
    The released code draws from those that the user has clicked, an inverted test (METHOD: prompt-enhanced attack).
    """
    choice_key, hit_key = jax.random.split(key)
    shape = batch.negative.shape
    unseen = ~has_seen(batch.user, spec.targets, spec.seen)  # [.., S, K]
    owner = jnp.maximum(batch.segment - 1, 0)
    unseen = jnp.take_along_axis(unseen, owner[..., None], axis=-2)  # [.., T, K]
    count = unseen.sum(-1)[..., None]
    # The r-th unseen target is the first that has r + 1 unseen ones up to itself.
    pick = jax.random.randint(choice_key, shape, 0, jnp.maximum(count, 1))
    target = spec.targets[jnp.argmax(jnp.cumsum(unseen, -1)[..., None, :] > pick[..., None], axis=-1)]
    hit = jax.random.bernoulli(hit_key, spec.demote_rate, shape) & (count > 0)
    hit &= ((batch.label > 0) & ~batch.in_group)[..., None]
    return batch._replace(negative=jnp.where(hit, target, batch.negative))


implant = chain(replace_in_group, demote_for_rest)
