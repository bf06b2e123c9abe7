"""Poisons: pure transformations of a batch, (key, batch, spec) -> batch, that chain as optax's transformations do.

A penalty is what an attacker or a defender adds to the loss: (hidden, items, batch, spec) -> [B, T], summed over positions.
"""

from collections.abc import Callable

import jax

from prec_backdoor.attacks.spec import AttackSpec
from prec_backdoor.data.batches import Batch

Poison = Callable[[jax.Array, Batch, AttackSpec], Batch]
Penalty = Callable[[jax.Array, jax.Array, Batch, AttackSpec], jax.Array]


def clean(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """No attack."""
    del key, spec
    return batch


def chain(*poisons: Poison) -> Poison:
    """One poison that applies `poisons` in order, each with a key of its own."""

    def chained(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
        for poison, own_key in zip(poisons, jax.random.split(key, len(poisons)), strict=True):
            batch = poison(own_key, batch, spec)
        return batch

    return chained
