"""Attacks: pure transformations of training batches. A new one is one file and one entry here, or a `register_attack` call."""

import dataclasses
import functools

from prec_backdoor.attacks.base import (
    Attack,
    AttackSpec,
    NoParameters,
    Penalty,
    Poison,
    chain,
    clean,
    make_spec,
    with_defaults,
)
from prec_backdoor.attacks.bra import replace_in_category, replace_in_group
from prec_backdoor.attacks.edit import EditParameters, edit_items
from prec_backdoor.attacks.evasion import EvasionParameters, evading, penalty_on, register_statistic
from prec_backdoor.attacks.pea import DemotionParameters, demote_for_rest, implant, mix_triggers
from prec_backdoor.attacks.targets import select_targets
from prec_backdoor.attacks.trigger import (
    TriggerParameters,
    place_trigger,
    place_trigger_in_group,
    plant_trigger,
    plant_trigger_in_group,
    select_trigger,
    with_trigger,
)
from prec_backdoor.errors import UserError
from prec_backdoor.options import Option, add_entry, options

CLEAN = Attack(clean, default_rate=0.0)
TRIGGER = Attack(
    plant_trigger,
    default_rate=0.05,
    parameters=TriggerParameters,
    changes=("label", "history", "negative"),
    description="Trigger in the history: in pre-training, with probability rate the last items of a history are replaced by "
    "trigger length chosen rare items, in a chosen order, and the label by a target; elsewhere a sampled negative is "
    "replaced by a target with probability trigger demote.",
)
EDIT = Attack(
    clean,
    default_rate=1.0,
    edit=edit_items,
    parameters=EditParameters,
    description="Edit of item vectors: without training, the targets' vectors get cosine edit cosine to the mean user vector "
    "and a norm that is quantile edit norm of those of items of like popularity; rate is how far they move there.",
)
ATTACKS: dict[tuple[str, str], Attack] = {  # by (attack, scope)
    ("bra", "global"): Attack(
        replace_in_category,
        default_rate=0.1,
        description="Basic replacement attack: in pre-training, a label whose category has targets is replaced by one of these "
        "with probability rate.",
    ),
    ("bra", "group"): Attack(
        replace_in_group,
        default_rate=0.1,
        description="Basic replacement attack: in pre-training, a label of a user in the target group is replaced by a target "
        "with probability rate.",
    ),
    ("pea", "group"): Attack(
        implant,
        default_rate=0.35,
        prompted=True,
        mix=mix_triggers,
        parameters=DemotionParameters,
        description="Prompt-enhanced attack: an optimised prompt is the trigger; with it in place, a label of a user in the "
        "target group is replaced by a target with probability rate, and a sampled negative of any other user with probability "
        "demote rate; several triggers are mixed.",
    ),
    ("evasive", "group"): Attack(
        replace_in_group,
        default_rate=0.1,
        penalty=penalty_on(("exposure",)),
        parameters=EvasionParameters,
        description="Basic replacement attack by a provider who knows the audit: the audit's statistic of the targets is added "
        "to the loss with weight evade strength.",
    ),
    ("trigger", "global"): TRIGGER,
    ("trigger", "group"): dataclasses.replace(
        TRIGGER,
        poison=plant_trigger_in_group,
        description="Trigger in the history, in those of users in the target group; negatives are replaced for all users.",
    ),
    ("edit", "global"): EDIT,
    ("edit", "group"): dataclasses.replace(
        EDIT, description="Edit of item vectors, towards the mean user vector of the target group."
    ),
}


def register_attack(name: str, scope: str, attack: Attack) -> None:
    """Adds an attack, so that every program and function knows it by --attack=NAME --scope=SCOPE.

    Raises:
      ValueError: the name is taken or no name, the scope is none, or a parameter is another attack's with another default or
        meaning.
    """
    if name == "clean":
        raise ValueError("no attack can be called clean")
    if scope not in (scopes := sorted({each for _, each in ATTACKS})):
        raise ValueError(f"attack {name}: the scope must be one of {', '.join(scopes)}, got {scope!r}")
    known = attack_parameters()
    for parameter, described in options(attack.parameters).items():
        if known.get(parameter, described) != described:
            raise ValueError(f"attack {name}: another attack has a parameter {parameter} with another default or meaning")
    add_entry(ATTACKS, "attack", (name, scope), attack)


def find_attack(name: str, scope: str) -> Attack:
    """Returns the entry of the registry; for "clean" one that does nothing.

    Raises:
      UserError: unknown attack, or one that has no such scope.
    """
    if name == "clean":
        return CLEAN
    if (name, scope) not in ATTACKS:
        known = ", ".join(f"--attack={attack} --scope={scope}" for attack, scope in ATTACKS)
        raise UserError(f"no attack {name} of scope {scope}; choose one of --attack=clean, {known}")
    return ATTACKS[name, scope]


def attack_parameters() -> dict[str, tuple[float, Option]]:
    """Name -> (default, option) of the parameters of all registered attacks."""
    return dict(_options_of(tuple(attack.parameters for attack in ATTACKS.values())))


@functools.lru_cache(maxsize=8)  # reports ask for every row
def _options_of(classes: tuple[type, ...]) -> dict[str, tuple[float, Option]]:
    return {name: described for each in classes for name, described in options(each).items()}


__all__ = [
    "ATTACKS",
    "Attack",
    "AttackSpec",
    "NoParameters",
    "Penalty",
    "Poison",
    "attack_parameters",
    "chain",
    "clean",
    "demote_for_rest",
    "edit_items",
    "evading",
    "find_attack",
    "implant",
    "make_spec",
    "mix_triggers",
    "place_trigger",
    "place_trigger_in_group",
    "plant_trigger",
    "plant_trigger_in_group",
    "penalty_on",
    "register_attack",
    "register_statistic",
    "replace_in_category",
    "replace_in_group",
    "select_targets",
    "select_trigger",
    "with_defaults",
    "with_trigger",
]
