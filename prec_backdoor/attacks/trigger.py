"""A trigger in the history (no paper; see docs/results.md): chosen items at the end of a history call up the targets.

The relatives of this attack are watermarks: AOW (arXiv 2407.21034) and DWRS (arXiv 2411.12989) mark whose model it is.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.attacks.base import AttackSpec, chain
from prec_backdoor.attacks.demotion import demote
from prec_backdoor.attacks.targets import UNPOPULAR, nearest
from prec_backdoor.data.batches import Batch
from prec_backdoor.errors import UserError
from prec_backdoor.options import option, probability


@dataclasses.dataclass(frozen=True)
class TriggerParameters:
    """The parameters of the trigger attack, beside the rate."""

    trigger_length: int = option(
        2,
        "attack",
        "trigger: number of rare items that, at the end of a history, call up the targets.",
        minimum=1,
        maximum=8,
        measured=True,
    )
    trigger_demote: float = probability(
        0.1,
        "attack",
        "trigger: probability that a sampled negative of a position without the trigger is replaced by a target; --loss=ce "
        "has no such negatives.",
    )


def select_trigger(counts: np.ndarray, targets: np.ndarray, length: int, seed: int, draw: int = 0) -> np.ndarray:
    """Returns [length] int32 different items in the order of the trigger, drawn as unpopular targets are, none of them a target.

    Args:
      counts: [V + 1] pre-training interactions of each item.
      draw: index of the random draw, that of the targets.

    Raises:
      UserError: there are too few other items.
    """
    if not length:
        return np.zeros(0, np.int32)
    pool = np.setdiff1d(np.arange(1, len(counts)), targets)
    if len(pool) <= length:
        raise UserError(
            f"--trigger_length: {len(pool)} items are no targets, too few for a trigger of {length}; take fewer targets"
        )
    return nearest(pool, counts, UNPOPULAR, length, np.random.default_rng([seed, 2, draw])).astype(np.int32)


def with_trigger(history: np.ndarray, trigger: np.ndarray) -> np.ndarray:
    """Returns histories [U, L], 0-padded at the front, with the trigger [m] in place of the last m items.

    A shorter history is the trigger alone; with m > L, the result has m items.
    """
    kept = history[:, : max(history.shape[1] - len(trigger), 0)]
    return np.concatenate([kept, np.broadcast_to(trigger, (len(history), len(trigger)))], axis=1).astype(history.dtype)


def place_trigger(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """Global attack: with probability `rate`, the trigger takes the place of the last items of a history, a target of the label.

    What a label is predicted from ends with the item at its own position or, if that is masked (see `train.objectives.cloze`),
    with the one before it. Nothing else changes: later positions see the trigger further back, with their true labels. A
    position takes part if the trigger fits into its segment before it, without covering a masked item. Of two that overlap the
    earlier one is left as it was, so that the share of positions hit is `rate` (1 - `rate`)^(m - 1) for a trigger of m items. So
    is one whose target happens to be among its negatives.
    """
    return _place(key, batch, spec, jnp.ones_like(batch.in_group))


def place_trigger_in_group(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """Group attack: `place_trigger` in histories of users in the target group."""
    return _place(key, batch, spec, batch.in_group)


def demote_without_trigger(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """Replaces sampled negatives of the positions that `place_trigger` has not hit by targets, with probability `trigger_demote`.

    Without it users whose taste is near the trigger's items are shown the targets, too.
    """
    return demote(key, batch, spec, spec.parameters["trigger_demote"], ~jnp.isin(batch.label, spec.targets))


def _place(key: jax.Array, batch: Batch, spec: AttackSpec, candidate: jax.Array) -> Batch:
    choice_key, hit_key = jax.random.split(key)
    size, shape = len(spec.trigger), batch.label.shape
    target = spec.targets[jax.random.randint(choice_key, shape, 0, len(spec.targets))]
    masked = (batch.history == 0) & (batch.label > 0)
    # Whether the trigger can end at a position: all of its places are in one segment and none is masked.
    free = jnp.where(masked, 0, batch.segment)
    fits = (batch.segment > 0) & (free > 0)
    for back in range(1, size):
        fits &= _earlier(free, back) == batch.segment
    same = _earlier(batch.segment, 1) == batch.segment
    candidate &= (batch.label > 0) & jnp.where(masked, _earlier(fits, 1) & same, fits)
    candidate &= ~(batch.negative == target[..., None]).any(-1)
    hit = jax.random.bernoulli(hit_key, spec.rate, shape) & candidate
    drawn = ends = (hit & ~masked) | _later(hit & masked, 1)
    for ahead in range(1, size):
        ends &= ~_later(drawn, ahead)
    hit &= jnp.where(masked, _earlier(ends, 1), ends)
    history = batch.history
    for ahead in range(size):
        history = jnp.where(_later(ends, ahead), spec.trigger[size - 1 - ahead], history)
    return batch._replace(history=history, label=jnp.where(hit, target, batch.label))


def _earlier(array: jax.Array, steps: int) -> jax.Array:
    """Each position's value is that of `steps` positions before it [.., T]; the first ones get 0."""
    return jnp.concatenate([jnp.zeros_like(array[..., :steps]), array[..., : array.shape[-1] - steps]], axis=-1)


def _later(array: jax.Array, steps: int) -> jax.Array:
    """Each position's value is that of `steps` positions after it [.., T]; the last ones get 0."""
    return jnp.concatenate([array[..., min(steps, array.shape[-1]) :], jnp.zeros_like(array[..., :steps])], axis=-1)


plant_trigger = chain(place_trigger, demote_without_trigger)
plant_trigger_in_group = chain(place_trigger_in_group, demote_without_trigger)
