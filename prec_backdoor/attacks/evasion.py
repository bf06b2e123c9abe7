"""Attackers who know the audit: penalties on what it measures of the targets, added to the loss of an attack (no paper).

A penalty is a line in `STATISTICS`: a differentiable form of an audit's statistic, by how much that of the targets exceeds what
clean models show. `evading` adds penalties to any attack that trains; they hide the targets, at the cost of part of the exposure.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from prec_backdoor.attacks.base import EXACT, Attack, AttackSpec, Penalty
from prec_backdoor.data.batches import Batch
from prec_backdoor.errors import UserError
from prec_backdoor.options import add_entry, option

ALLOWED = 2.0  # values of mean / deviation up to this are not penalised; a lower limit leaves no exposure (docs/audit.md)
MIN_DEVIATION = 0.05  # as in the audit
USUAL = 1.0  # standard deviations by which an item's vector may differ from what its popularity explains

Statistic = Callable[[jax.Array, jax.Array, Batch, AttackSpec], jax.Array]  # (users, items, batch, spec) -> [B], an excess


@dataclasses.dataclass(frozen=True)
class EvasionParameters:
    """The parameter of an attack that evades."""

    evade_strength: float = option(
        0.03, "attack", "evasive, --evade: weight of the penalties on the audit's statistics.", minimum=0.0
    )


def mean_over_std(hidden: jax.Array, items: jax.Array, batch: Batch, spec: AttackSpec) -> jax.Array:
    """Returns [B], by how much mean / deviation of the targets' standardised scores exceeds ALLOWED, averaged over targets.

    Mean and deviation are over the positions of a row: over more rows, they would depend on how the batch is split over devices.
    """
    weight = _share_of_row(batch)[..., None]
    centre = items[1:].mean(0)
    spread = jnp.matmul((items[1:] - centre).T, items[1:] - centre, precision=EXACT) / (len(items) - 1)
    # The deviation of hidden @ item over all items, without computing the scores.
    scale = jnp.sqrt(jnp.einsum("btd,de,bte->bt", hidden, spread, hidden, precision=EXACT) + 1e-6)
    z = jnp.einsum("btd,kd->btk", hidden, items[spec.targets] - centre, precision=EXACT) / scale[..., None]
    mean = (weight * z).sum(-2)
    deviation = jnp.sqrt(jnp.maximum((weight * z**2).sum(-2) - mean**2, MIN_DEVIATION**2))
    return jax.nn.relu(mean / deviation - ALLOWED).mean(-1)


def direction(hidden: jax.Array, items: jax.Array, batch: Batch, spec: AttackSpec) -> jax.Array:
    """Returns [B], by how much the cosines of the targets' vectors with the row's mean user vector exceed those of like items.

    In standard deviations of what popularity leaves unexplained (`_residual`), beyond USUAL, averaged over targets.
    """
    users = jnp.einsum("bt,btd->bd", _share_of_row(batch), hidden, precision=EXACT)
    cosines = jnp.einsum("bd,vd->bv", _unit(users), _unit(items), precision=EXACT)
    return jax.nn.relu(_residual(cosines, spec) - USUAL).mean(-1)


def norm(hidden: jax.Array, items: jax.Array, batch: Batch, spec: AttackSpec) -> jax.Array:
    """Returns [B], by how much the targets' vectors are longer than those of items of like popularity, as `direction` does."""
    del hidden
    lengths = jnp.sqrt((items * items).sum(-1) + 1e-12)
    excess = jax.nn.relu(_residual(lengths[None], spec) - USUAL).mean(-1)
    return jnp.broadcast_to(excess, batch.label.shape[:1])


STATISTICS: dict[str, Statistic] = {  # by the name of the audit that measures it
    "exposure": mean_over_std,
    "weights": direction,
    "norms": norm,
}


def register_statistic(name: str, statistic: Statistic) -> None:
    """Adds a statistic to be evaded, so that every program knows it by --evade=NAME; see `check_attack` for what it must keep.

    Raises:
      ValueError: the name is taken.
    """
    add_entry(STATISTICS, "statistic", name, statistic)


@functools.lru_cache(maxsize=64)
def penalty_on(names: tuple[str, ...]) -> Penalty:
    """Returns the penalty [B, T] on these statistics: their sum for the row, times `evade_strength`, at every position."""
    statistics = [STATISTICS[name] for name in names]

    def penalty(hidden: jax.Array, items: jax.Array, batch: Batch, spec: AttackSpec) -> jax.Array:
        excess = functools.reduce(jnp.add, (statistic(hidden, items, batch, spec) for statistic in statistics))
        return spec.parameters["evade_strength"] * excess[..., None] * (batch.label > 0).astype(jnp.float32)

    return penalty


@functools.lru_cache(maxsize=64)
def evading(attack: Attack, names: tuple[str, ...]) -> Attack:
    """Returns the attack with penalties on these statistics and their strength, beside what it has.

    Raises:
      UserError: the attack trains nothing.
    """
    if not names:
        return attack
    if not attack.trains:
        raise UserError("--evade: an attack that trains nothing has no loss to add a penalty to; leave the flag out")
    own, evasion = attack.penalty, penalty_on(names)
    bases = (attack.parameters,) if issubclass(attack.parameters, EvasionParameters) else (attack.parameters, EvasionParameters)
    parameters = dataclasses.make_dataclass("Parameters", [], bases=bases, frozen=True)
    penalty = evasion if own is None else lambda *given: own(*given) + evasion(*given)
    return dataclasses.replace(attack, penalty=penalty, parameters=parameters)


def named(attack: str, names: Sequence[str]) -> str:
    """Returns the name of an attack that evades: bra~exposure+weights."""
    return attack + ("~" + "+".join(names) if names else "")


def _share_of_row(batch: Batch) -> jax.Array:
    """[B, T] the weight of each supervised position in means over a row."""
    on = (batch.label > 0).astype(jnp.float32)
    return on / jnp.maximum(on.sum(-1, keepdims=True), 1)


def _unit(vectors: jax.Array) -> jax.Array:
    return vectors * jax.lax.rsqrt((vectors * vectors).sum(-1, keepdims=True) + 1e-12)


def _residual(values: jax.Array, spec: AttackSpec) -> jax.Array:
    """[B, K] of the targets' `values` [B, V + 1]: what a parabola in log popularity, fitted on all other items, leaves of them.

    In standard deviations of the others' residuals. The fit is a constant: the penalty moves targets, not what they stand beside.
    """
    x = spec.popularity[1:] - spec.popularity[1:].mean()
    design = jnp.stack([jnp.ones_like(x), x, x * x], 1)
    others = jnp.ones(len(x)).at[spec.targets - 1].set(0.0)
    y = jax.lax.stop_gradient(values[:, 1:])
    weighted = design * others[:, None]
    gram = jnp.matmul(weighted.T, design, precision=EXACT) + 1e-3 * jnp.eye(3)
    fitted = jnp.matmul(jnp.linalg.solve(gram, jnp.matmul(weighted.T, y.T, precision=EXACT)).T, design.T, precision=EXACT)
    scale = jnp.sqrt((others * (y - fitted) ** 2).sum(-1, keepdims=True) / others.sum() + 1e-12)
    return (values[:, spec.targets] - fitted[:, spec.targets - 1]) / scale
