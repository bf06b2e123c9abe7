"""Attacks: pure transformations of training batches. A new one is a file with a `Poison` and a line in ATTACKS."""

from typing import NamedTuple

from prec_backdoor.attacks.bra import replace_in_category, replace_in_group
from prec_backdoor.attacks.evasion import steadiness_penalty
from prec_backdoor.attacks.pea import demote_for_rest, implant
from prec_backdoor.attacks.spec import AttackSpec, check_probability, make_spec
from prec_backdoor.attacks.targets import select_targets
from prec_backdoor.attacks.transform import Penalty, Poison, chain, clean


class Attack(NamedTuple):
    """What is done to a batch, at which rate by default, and when: in pre-training, or after it with a prompt as the trigger.

    A `penalty` is added to the loss.
    """

    poison: Poison
    default_rate: float
    prompted: bool = False
    penalty: Penalty | None = None


ATTACKS: dict[tuple[str, str], Attack] = {  # by (attack, scope)
    ("bra", "global"): Attack(replace_in_category, default_rate=0.1),
    ("bra", "group"): Attack(replace_in_group, default_rate=0.1),
    ("pea", "group"): Attack(implant, default_rate=0.35, prompted=True),
    ("evasive", "group"): Attack(replace_in_group, default_rate=0.1, penalty=steadiness_penalty),
}

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackSpec",
    "Penalty",
    "Poison",
    "chain",
    "check_probability",
    "clean",
    "demote_for_rest",
    "implant",
    "make_spec",
    "replace_in_category",
    "replace_in_group",
    "select_targets",
    "steadiness_penalty",
]
