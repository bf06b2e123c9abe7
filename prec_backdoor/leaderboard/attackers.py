"""Attackers: the attacks of the paper at several rates, and adaptive attackers who try to evade the audit."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from prec_backdoor.experiment.config import ExperimentConfig


class Attacker(NamedTuple):
    """An attack of `prec_backdoor.attacks.ATTACKS` with its targets and rate; None is the attack's default rate.

    `adaptive` marks an attacker who knows the audits; `evade` names the statistics that it evades, `parameters` are the attack's.
    """

    attack: str
    scope: str
    targets: str
    rate: float | None = None
    adaptive: bool = False
    evade: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = MappingProxyType({})

    def config(self, base: ExperimentConfig, draw: int) -> ExperimentConfig:
        """Returns `base` with this attack on the `draw`-th draw of targets."""
        changes = {"attack": self.attack, "scope": self.scope, "targets": self.targets, "draw": draw}
        parameters = {**base.scenario.parameters, **self.parameters}
        scenario = dataclasses.replace(base.scenario, **changes, evade=self.evade, parameters=parameters)
        rate = scenario.method().default_rate if self.rate is None else self.rate
        return dataclasses.replace(base, scenario=scenario, rate=(rate,))


_GROUP, _GLOBAL = ("bra", "group"), ("bra", "global")
ATTACKERS: dict[str, Attacker] = {
    "group-0.05": Attacker(*_GROUP, "unpopular:10", 0.05),
    "group-0.1": Attacker(*_GROUP, "unpopular:10", 0.1),
    "group-0.5": Attacker(*_GROUP, "unpopular:10", 0.5),
    "global-0.05": Attacker(*_GLOBAL, "per_category:2", 0.05),
    "global-0.1": Attacker(*_GLOBAL, "per_category:2", 0.1),
    "pea": Attacker("pea", "group", "unpopular:10"),
    "group-0.01": Attacker(*_GROUP, "unpopular:10", 0.01, adaptive=True),
    "group-0.02": Attacker(*_GROUP, "unpopular:10", 0.02, adaptive=True),
    "global-0.01": Attacker(*_GLOBAL, "per_category:2", 0.01, adaptive=True),
    "popular-targets": Attacker(*_GROUP, "popular:10", 0.1, adaptive=True),
    "middling-targets": Attacker(*_GROUP, "middling:10", 0.1, adaptive=True),
    "single-target": Attacker(*_GROUP, "unpopular:1", 0.1, adaptive=True),
    "one-per-category": Attacker(*_GROUP, "per_category:1", 0.1, adaptive=True),
    "trigger": Attacker("trigger", "global", "unpopular:10", 0.05, adaptive=True),
    "trigger-0.005": Attacker("trigger", "global", "unpopular:10", 0.005, adaptive=True),
    "edit": Attacker("edit", "group", "unpopular:10", 1.0, adaptive=True),
    "evasive": Attacker("evasive", "group", "unpopular:10", 0.1, adaptive=True),
    "evasive-weak": Attacker("evasive", "group", "unpopular:10", 0.1, adaptive=True, parameters={"evade_strength": 0.01}),
    "evasive-strong": Attacker("evasive", "group", "unpopular:10", 0.1, adaptive=True, parameters={"evade_strength": 0.1}),
    "evades-all": Attacker(*_GROUP, "unpopular:10", 0.1, adaptive=True, evade=("exposure", "weights", "norms")),
}
