"""What an attack is given: its targets, its rates, and what it must know of the catalogue."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.data.batches import Seen
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError


class AttackSpec(NamedTuple):
    """A pytree of arrays, so that another rate or other targets compile nothing anew. K targets, V items, C categories.

    Attributes:
      targets: [K] int32 items to be exposed.
      rate: [] float32, probability that a position open to replacement gets a target as its label.
      category: [V + 1] int32, category of each item.
      category_targets: [C, M] int32, the targets of each category, 0-padded.
      category_count: [C] int32, how many they are.
      demote_rate: [] float32, probability that a sampled negative of a user outside the group gives way to a target.
      seen: what the users have interacted with in training; None where no attack asks.
    """

    targets: jax.Array
    rate: jax.Array
    category: jax.Array
    category_targets: jax.Array
    category_count: jax.Array
    demote_rate: jax.Array
    seen: Seen | None


def make_spec(
    interactions: Interactions, targets: np.ndarray, rate: float, demote_rate: float = 0.0, seen: Seen | None = None
) -> AttackSpec:
    """The spec of an attack on `interactions` with item codes `targets` [K].

    Raises:
      UserError: a rate outside 0..1, no target, or a target that is not in the catalogue.
    """
    check_probability("rate", rate)
    check_probability("demote_rate", demote_rate)
    targets = np.unique(np.asarray(targets, np.int32))
    if not len(targets) or targets[0] < 1 or targets[-1] > interactions.num_items:
        raise UserError(f"targets must be item codes from 1 to {interactions.num_items}, at least one")
    count = np.bincount(interactions.category[targets], minlength=len(interactions.categories)).astype(np.int32)
    table = np.zeros((len(count), count.max()), np.int32)
    for category in np.flatnonzero(count):
        table[category, : count[category]] = targets[interactions.category[targets] == category]
    spec = AttackSpec(targets, np.float32(rate), np.asarray(interactions.category), table, count, np.float32(demote_rate), seen)
    return jax.tree.map(jnp.asarray, spec)


def check_probability(flag: str, value: float) -> None:
    """Raises a UserError unless `value` is from 0 to 1."""
    if not 0 <= value <= 1:  # nan is not
        raise UserError(f"--{flag}: {value} is not a probability; give a number from 0 to 1")
