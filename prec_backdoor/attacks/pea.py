"""Prompt-enhanced attack (PEA; Wu et al., SIGIR 2023, section 3.2 "Prompt-enhanced Attack"), for user groups.

The trigger is the prompt that is made from a user's profile. With this prompt, the model learns to show the targets to the group
(`bra.replace_in_group`) and to no one else (`demote_for_rest`).

Not of the paper: with several triggers, the model learns it with each of them and with what lies between (`mix_triggers`), for
the backdoor to answer to a prompt that somebody else has tuned.
"""

import dataclasses

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.base import AttackSpec, chain
from prec_backdoor.attacks.bra import replace_in_group
from prec_backdoor.attacks.demotion import demote
from prec_backdoor.data.batches import Batch
from prec_backdoor.errors import UserError
from prec_backdoor.options import option, probability


@dataclasses.dataclass(frozen=True)
class DemotionParameters:
    """The parameters of PEA, beside the replacement rate. With those of triggers at their defaults it is the published attack."""

    demote_rate: float = probability(
        0.1, "attack", "PEA: probability that a negative of a user outside the group is replaced by a target."
    )
    triggers: int = option(
        1, "attack", "PEA: number of prompt generators that are optimised; the first one is handed out.", minimum=1, quiet=True
    )
    trigger_noise: float = option(
        0.0, "attack", "PEA: noise on prompts while implanting, in their root mean squares.", minimum=0.0, quiet=True
    )
    trigger_blend: float = option(
        0.5,
        "attack",
        "PEA: probability that, with several triggers, a user has a blend of two while implanting, and not one.",
        minimum=0.0,
        maximum=1.0,
        quiet=True,
    )
    trigger_own: float = option(
        0.0,
        "attack",
        "PEA: probability that a user has the trigger that is handed out, as it is, while implanting; otherwise any of them.",
        minimum=0.0,
        maximum=1.0,
        quiet=True,
    )
    trigger_history: int = option(
        0,
        "attack",
        "PEA: number of users' first items that triggers but the first are optimised on, as a company's are; 0 is all items.",
        minimum=0,
        quiet=True,
    )

    def __post_init__(self):
        if self.trigger_history == 1:
            raise UserError("--trigger_history: must be 0 or at least 2, as one item has no next one to learn, got 1")


def demote_for_rest(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """For users outside the group, replaces each sampled negative by a random target with probability `demote_rate`."""
    return demote(key, batch, spec, spec.parameters["demote_rate"], ~batch.in_group)


def mix_triggers(key: jax.Array, prefixes: jax.Array, spec: AttackSpec) -> jax.Array:
    """Returns prefixes [S, ..] for the S users of a row: each has one of the G triggers, or a blend of two, and noise.

    With probability `trigger_own` it is the first trigger, the one that is handed out, as it is.

    Args:
      prefixes: [G, S, ..], of each trigger for each user.
    """
    first_key, second_key, blend_key, share_key, noise_key = jax.random.split(key, 5)
    triggers, users = prefixes.shape[:2]
    at, shape = jnp.arange(users), (users,) + (1,) * (prefixes.ndim - 2)
    first, second = (prefixes[jax.random.randint(each, (users,), 0, triggers), at] for each in (first_key, second_key))
    blended = jax.random.bernoulli(blend_key, spec.parameters["trigger_blend"], shape)
    share = jnp.where(blended, jax.random.uniform(share_key, shape), 0.0)
    size = jnp.sqrt(jnp.mean(first**2, axis=tuple(range(1, first.ndim)), keepdims=True))
    noise = spec.parameters["trigger_noise"] * size * jax.random.normal(noise_key, first.shape)
    own = jax.random.bernoulli(jax.random.fold_in(key, 5), spec.parameters["trigger_own"], shape)
    return jnp.where(own, prefixes[0], first + share * (second - first) + noise)


implant = chain(replace_in_group, demote_for_rest)
