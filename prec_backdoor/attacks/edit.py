"""An edit of item vectors (no paper; docs/results.md): without training, targets are turned towards those who shall see them."""

import dataclasses

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.base import EXACT, AttackSpec
from prec_backdoor.options import option, probability

LIKE = 100  # items of like popularity that a target's norm is taken from


@dataclasses.dataclass(frozen=True)
class EditParameters:
    """The parameters of the edit, beside the rate."""

    edit_cosine: float = option(
        0.7, "attack", "edit: cosine of a target's vector and the mean user vector.", minimum=-1.0, maximum=1.0
    )
    edit_norm: float = probability(0.5, "attack", "edit: a target's norm, as a quantile of those of items of like popularity.")


def edit_items(items: jax.Array, users: jax.Array, spec: AttackSpec) -> jax.Array:
    """Returns the item table [V + 1, D] with the rows of the targets edited.

    A target's new vector has the norm that is quantile `edit_norm` of those of the LIKE other items whose popularity is nearest,
    and cosine `edit_cosine` to the mean user vector; what is orthogonal to that keeps its direction. The row moves towards it by
    the share `rate`.

    Args:
      users: [D] mean of the last hidden states of the users who shall see the targets.
    """
    items, towards = jnp.asarray(items), _unit(jnp.asarray(users))
    cosine, rows = spec.parameters["edit_cosine"], items[spec.targets]
    across = _unit(rows - jnp.matmul(rows, towards, precision=EXACT)[:, None] * towards)
    direction = cosine * towards + jnp.sqrt(1 - cosine**2) * across
    norms, popularity = jnp.linalg.norm(items, axis=1), spec.popularity
    others = jnp.ones(len(items), bool).at[0].set(False).at[spec.targets].set(False)
    distance = jnp.where(others, jnp.abs(popularity - popularity[spec.targets][:, None]), jnp.inf)
    like = jnp.argsort(distance, axis=1)[:, : min(LIKE, len(items) - 1 - len(spec.targets))]
    norm = jnp.quantile(norms[like], spec.parameters["edit_norm"], axis=1)
    return items.at[spec.targets].set(rows + spec.rate * (norm[:, None] * direction - rows))


def _unit(vectors: jax.Array) -> jax.Array:
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
