"""Who attacks: the attacks of the paper at the rates of interest, and attackers who try to stay below the audit."""

from typing import NamedTuple


class Attacker(NamedTuple):
    """An attack of `prec_backdoor.attacks.ATTACKS` with targets and a rate; None takes the attack's default.

    `adaptive`: one who knows that there are audits.
    """

    attack: str
    scope: str
    targets: str
    rate: float | None = None
    adaptive: bool = False


_GROUP, _EVERYBODY = ("bra", "group"), ("bra", "global")
ATTACKERS: dict[str, Attacker] = {
    "group-0.05": Attacker(*_GROUP, "unpopular:10", 0.05),
    "group-0.1": Attacker(*_GROUP, "unpopular:10", 0.1),
    "group-0.5": Attacker(*_GROUP, "unpopular:10", 0.5),
    "global-0.05": Attacker(*_EVERYBODY, "per_category:2", 0.05),
    "global-0.1": Attacker(*_EVERYBODY, "per_category:2", 0.1),
    "pea": Attacker("pea", "group", "unpopular:10"),
    "group-0.01": Attacker(*_GROUP, "unpopular:10", 0.01, adaptive=True),
    "group-0.02": Attacker(*_GROUP, "unpopular:10", 0.02, adaptive=True),
    "global-0.01": Attacker(*_EVERYBODY, "per_category:2", 0.01, adaptive=True),
    "popular-targets": Attacker(*_GROUP, "popular:10", 0.1, adaptive=True),
    "middling-targets": Attacker(*_GROUP, "middling:10", 0.1, adaptive=True),
    "single-target": Attacker(*_GROUP, "unpopular:1", 0.1, adaptive=True),
    "one-per-category": Attacker(*_GROUP, "per_category:1", 0.1, adaptive=True),
    "evasive": Attacker("evasive", "group", "unpopular:10", 0.1, adaptive=True),
}
