"""What an attack is given: its targets, its rates, and what it must know of the catalogue."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
    """

    targets: jax.Array
    rate: jax.Array
    category: jax.Array
    category_targets: jax.Array
    category_count: jax.Array


def make_spec(interactions: Interactions, targets: np.ndarray, rate: float) -> AttackSpec:
    """The spec of an attack on `interactions` with item codes `targets` [K].

    Raises:
      UserError: a rate outside 0..1, no target, or a target that is not in the catalogue.
    """
    if not 0 <= rate <= 1:
        raise UserError(f"--rate: {rate} is not a probability; give a number from 0 to 1")
    targets = np.unique(np.asarray(targets, np.int32))
    if not len(targets) or targets[0] < 1 or targets[-1] > interactions.num_items:
        raise UserError(f"targets must be item codes from 1 to {interactions.num_items}, at least one")
    count = np.bincount(interactions.category[targets], minlength=len(interactions.categories)).astype(np.int32)
    table = np.zeros((len(count), count.max()), np.int32)
    for category in np.flatnonzero(count):
        table[category, : count[category]] = targets[interactions.category[targets] == category]
    spec = AttackSpec(targets, np.float32(rate), np.asarray(interactions.category), table, count)
    return jax.tree.map(jnp.asarray, spec)
