"""Attacks: pure transformations of training batches. A new one is a file and a line here, or a call of `register_attack`."""

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
from prec_backdoor.attacks.evasive import EvasionParameters, mean_over_std_penalty
from prec_backdoor.attacks.pea import DemotionParameters, demote_for_rest, implant
from prec_backdoor.attacks.targets import select_targets
from prec_backdoor.errors import UserError
from prec_backdoor.options import Option, options

CLEAN = Attack(clean, default_rate=0.0)
ATTACKS: dict[tuple[str, str], Attack] = {  # by (attack, scope)
    ("bra", "global"): Attack(replace_in_category, default_rate=0.1),
    ("bra", "group"): Attack(replace_in_group, default_rate=0.1),
    ("pea", "group"): Attack(implant, default_rate=0.35, prompted=True, parameters=DemotionParameters),
    ("evasive", "group"): Attack(replace_in_group, default_rate=0.1, penalty=mean_over_std_penalty, parameters=EvasionParameters),
}


def register_attack(name: str, scope: str, attack: Attack) -> None:
    """Adds an attack, which every program and function then finds by --attack=NAME --scope=SCOPE.

    Raises:
      ValueError: the name is taken, or another attack has a parameter of the same name with another default or meaning.
    """
    if name == "clean" or (name, scope) in ATTACKS:
        raise ValueError(f"an attack {name} of scope {scope} is already registered")
    known = attack_parameters()
    for parameter, described in options(attack.parameters).items():
        if known.get(parameter, described) != described:
            raise ValueError(f"attack {name}: another attack has a parameter {parameter} with another default or meaning")
    ATTACKS[name, scope] = attack


def find_attack(name: str, scope: str) -> Attack:
    """Returns the entry of the registry; for "clean" an attack that does nothing.

    Raises:
      UserError: unknown attack, or an attack without this scope.
    """
    if name == "clean":
        return CLEAN
    if (name, scope) not in ATTACKS:
        known = ", ".join(f"--attack={attack} --scope={scope}" for attack, scope in ATTACKS)
        raise UserError(f"no attack {name} of scope {scope}; choose one of --attack=clean, {known}")
    return ATTACKS[name, scope]


def attack_parameters() -> dict[str, tuple[float, Option]]:
    """Returns name -> (default, option) of the parameters of all registered attacks."""
    return {name: described for attack in ATTACKS.values() for name, described in options(attack.parameters).items()}


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
    "find_attack",
    "implant",
    "make_spec",
    "mean_over_std_penalty",
    "register_attack",
    "replace_in_category",
    "replace_in_group",
    "select_targets",
    "with_defaults",
]
