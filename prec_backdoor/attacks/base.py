"""The parts of an attack: a pure transformation of training batches, an optional penalty on the loss, and its parameters."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from prec_backdoor.data.batches import Batch, Seen
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.options import NoParameters, Option, check_options, check_value
from prec_backdoor.parallel import on_device


class AttackSpec(NamedTuple):
    """The data of an attack, for K targets, V items and C categories.

    All fields are arrays, whose sizes depend on nothing but the dataset and K: another rate or other targets of the same number
    need no new compilation.

    Attributes:
      targets: [K] int32 items to be exposed.
      rate: [] float32, probability that a label that the attack may replace becomes a target.
      category: [V + 1] int32, category of each item.
      category_targets: [K] int32, the targets in the order of their categories.
      category_start, category_count: [C] int32, where each category's targets start in `category_targets`, and how many they are.
      parameters: name -> [] float32, the parameters of this attack.
      seen: the users' training interactions; None if the attack does not use them.
      trigger: [m] int32, items that call up the targets at the end of a history; none for an attack without such a trigger.
      popularity: [V + 1] float32, log(1 + number of interactions) of each item.
      prompts: parameters of the prompt generators that an attack mixes (see `Attack.mix`), stacked; None if it mixes none.
    """

    targets: jax.Array
    rate: jax.Array
    category: jax.Array
    category_targets: jax.Array
    category_start: jax.Array
    category_count: jax.Array
    parameters: dict[str, jax.Array]
    seen: Seen | None
    trigger: jax.Array = ()
    popularity: jax.Array = ()
    prompts: Any = None


EXACT = jax.lax.Precision.HIGHEST  # float32 products on every platform, as for all scores

Poison = Callable[[jax.Array, Batch, AttackSpec], Batch]  # (key, batch, spec) -> batch
Edit = Callable[[jax.Array, jax.Array, AttackSpec], jax.Array]  # (items, mean user, spec) -> items
Mix = Callable[[jax.Array, jax.Array, AttackSpec], jax.Array]  # (key, prefixes [G, S, ..], spec) -> [S, ..], of one row
Penalty = Callable[[jax.Array, jax.Array, Batch, AttackSpec], jax.Array]  # (hidden, items, batch, spec) -> [B, T], summed


@dataclasses.dataclass(frozen=True)
class Attack:
    """An entry of the registry.

    Attributes:
      poison: transforms each training batch; at rate 0 it is not applied.
      default_rate: replacement rate by default.
      prompted: whether the attack follows clean pre-training, with an optimised prompt (see PEA), instead of being part of
        pre-training.
      penalty: added to the loss of each position.
      edit: changes the table that items are scored with, after clean pre-training; such an attack trains nothing (see
        `attacks.edit`), and its rate is how far it goes.
      mix: of a prompted attack with several triggers, what stands in the place of the prompts of a row's users. It is in use if
        the parameter `triggers`, their number, or another that makes the mixture is not at its default.
      parameters: a frozen dataclass of numbers made with `option`. Each becomes a flag, a field of config.json and results.json,
        and an entry of `AttackSpec.parameters`. One called `trigger_length` gives the attack trigger items.
      changes: the fields of a batch that the poison may change.
      description: one sentence for the glossary of reports.
    """

    poison: Poison
    default_rate: float
    prompted: bool = False
    penalty: Penalty | None = None
    edit: Edit | None = None
    mix: Mix | None = None
    parameters: type = NoParameters
    changes: tuple[str, ...] = ("label", "negative")
    description: str = ""

    @property
    def trains(self) -> bool:
        """Whether there is a loss that the attack has a part in."""
        return self.poison is not clean


def make_spec(
    interactions: Interactions,
    targets: np.ndarray,
    rate: float,
    parameters: Mapping[str, Any] | None = None,
    seen: Seen | None = None,
    trigger: np.ndarray | None = None,
    *,
    counts: np.ndarray | None = None,
) -> AttackSpec:
    """Returns the spec of an attack on `interactions` with the item codes `targets` [K] and, if it has one, `trigger` [m].

    Args:
      counts: [V + 1] interactions of each item that popularity goes by, all by default.

    Raises:
      UserError: the rate is outside 0..1, or there is no target, or one that is not in the catalogue.
    """
    check_value("rate", float(rate), Option("", "attack", minimum=0, maximum=1))
    targets = np.unique(np.asarray(targets, np.int32))
    if not len(targets) or targets[0] < 1 or targets[-1] > interactions.num_items:
        raise UserError(f"targets must be item codes from 1 to {interactions.num_items}, at least one")
    count = np.bincount(interactions.category[targets], minlength=len(interactions.categories)).astype(np.int32)
    ordered = targets[np.argsort(interactions.category[targets], kind="stable")]
    start = np.cumsum(count, dtype=np.int32) - count
    own = {name: np.float32(value) for name, value in (parameters or {}).items()}
    count[0] = 0  # items of unknown category have nothing in common
    category, items = np.asarray(interactions.category), np.asarray([] if trigger is None else trigger, np.int32)
    counts = np.bincount(interactions.items, minlength=len(category)) if counts is None else counts
    popularity = np.log1p(counts).astype(np.float32)
    return on_device(AttackSpec(targets, np.float32(rate), category, ordered, start, count, own, seen, items, popularity))


def with_defaults(attack: Attack, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns name -> value of the attack's parameters, from `given` or by default.

    Raises:
      UserError: a value is outside its limits.
    """
    names = [field.name for field in dataclasses.fields(attack.parameters)]
    chosen = attack.parameters(**{name: given[name] for name in names if name in given})
    check_options(chosen)
    return dataclasses.asdict(chosen)


def clean(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """Returns the batch as it is."""
    del key, spec
    return batch


def chain(*poisons: Poison) -> Poison:
    """Returns a poison that applies `poisons` in order, each with its own key."""

    def chained(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
        for poison, own_key in zip(poisons, jax.random.split(key, len(poisons)), strict=True):
            batch = poison(own_key, batch, spec)
        return batch

    return chained
