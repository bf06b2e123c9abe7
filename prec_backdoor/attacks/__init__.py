"""Attacks: pure transformations of training batches. A new one is a file with a `Poison` and a line in ATTACKS."""

from prec_backdoor.attacks.bra import replace_in_category, replace_in_group
from prec_backdoor.attacks.spec import AttackSpec, make_spec
from prec_backdoor.attacks.targets import select_targets
from prec_backdoor.attacks.transform import Poison, chain, clean

ATTACKS: dict[tuple[str, str], Poison] = {  # (attack, scope) -> what it does to a batch in pre-training
    ("bra", "global"): replace_in_category,
    ("bra", "group"): replace_in_group,
}

__all__ = [
    "ATTACKS",
    "AttackSpec",
    "Poison",
    "chain",
    "clean",
    "make_spec",
    "replace_in_category",
    "replace_in_group",
    "select_targets",
]
