"""Which models a zoo has: drawn from its seed, before anything is trained."""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from prec_backdoor.attacks import ATTACKS
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.plan import model_stages
from prec_backdoor.leaderboard.backbones import with_backbone
from prec_backdoor.models import BACKBONES
from prec_backdoor.zoo.config import ZooConfig

RATES = (0.25, 0.5, 1.0, 2.0)  # of an attack's default rate
TARGETS = ("unpopular:10", "unpopular:3", "unpopular:1", "middling:10", "popular:10")
OF_CATEGORIES = {("bra", "global"): ("per_category:2", "per_category:1")}  # attacks that need a target in each category
GROUP_SHARES, GROUP_USERS = (0.05, 0.6), 10  # of the users, and at least how many, in a target group
NEEDED = "group attacks need a profile value that 5 to 60 % of the users have, global ones need categories of items"


class Recipe(NamedTuple):
    """One model of a zoo.

    Attributes:
      model: its name, which says nothing else.
      seed: its own; it draws users, targets and initial weights.
      attack, scope: "clean" models have scope "global".
      prompted: whether it comes with the provider's prompt, as clean models do too.
      group: the condition, such as gender=F; None for a global attack and for a clean model.
    """

    model: str
    backbone: str
    seed: int
    attack: str
    scope: str
    rate: float
    targets: str
    group: str | None
    prompted: bool

    def config(self, base: ExperimentConfig) -> ExperimentConfig:
        """`base` with this model's backbone and attack; sizes that the backbone does not have are at their defaults."""
        model = with_backbone(base.model, self.backbone)
        attack = {"attack": self.attack, "scope": self.scope, "group": self.group, "targets": self.targets}
        scenario = dataclasses.replace(base.scenario, **attack)
        return dataclasses.replace(base, scenario=scenario, model=model, rate=(self.rate,), seeds=(self.seed,))

    def stages(self, config: ExperimentConfig) -> list[tuple[str, float]]:
        """(stage, rate) from the first to the last."""
        if self.attack == "clean":
            return [(stage, 0.0) for stage in ("pretrain", *(("optimize_trigger",) if self.prompted else ()))]
        return [(stage, rate) for _, stage, rate in model_stages(config, self.rate, "zero_shot", self.model)]


def draw_recipes(zoo: ZooConfig, interactions: Interactions) -> list[Recipe]:
    """Returns the recipes in the order of their names.

    Backbones, attacks, rates, targets and groups take turns, each in an order of its own, so that all are there in a small zoo.
    As large a share of the clean models as of the attacked ones has a prompt.

    Raises:
      UserError: an attack or a backbone that is not registered, or none that suits the data.
    """
    rng = np.random.default_rng([zoo.seed, 17])
    groups = _groups(interactions)
    kinds = _kinds(zoo, interactions, suited=True)
    _check_names(zoo, kinds)
    clean = min(max(round(zoo.clean_share * zoo.models), 1), zoo.models - 1)
    attacked = [kind for kind, _ in zip(_turns(rng, kinds), range(zoo.models - clean), strict=False)]
    prompts = sum(ATTACKS[kind].prompted for kind in attacked)
    prompted_clean = round(clean * prompts / len(attacked))
    chosen = [(*kind, ATTACKS[kind].prompted) for kind in attacked]
    chosen += [("clean", "global", number < prompted_clean) for number in range(clean)]
    order = rng.permutation(len(chosen))
    backbones, rates, of_group = (_turns(rng, each) for each in (zoo.backbones, RATES, groups or [None]))
    targets = {kind: _turns(rng, OF_CATEGORIES.get(kind, TARGETS)) for kind in kinds}
    seeds, recipes, width = rng.choice(2**31, zoo.models, replace=False), [], len(str(zoo.models - 1))
    of_clean, of_attacked = _turns(rng, zoo.backbones), backbones
    for place, index in enumerate(order):
        attack, scope, prompted = chosen[index]
        is_clean = attack == "clean"
        rate = 0.0 if is_clean else min(ATTACKS[attack, scope].default_rate * next(rates), 1.0)
        recipes.append(
            Recipe(
                model=f"model-{place:0{width}}",
                backbone=next(of_clean if is_clean else of_attacked),
                seed=int(seeds[place]),
                attack=attack,
                scope=scope,
                rate=round(rate, 6),
                targets="unpopular:1" if is_clean else next(targets[attack, scope]),
                group=next(of_group) if scope == "group" else None,
                prompted=prompted,
            )
        )
    return recipes


def unsuited(zoo: ZooConfig, interactions: Interactions) -> str:
    """Returns a line on the attacks of `zoo` that no model has, as they do not suit the data; empty if there are none."""
    missing = _kinds(zoo, interactions, suited=False)
    return f"{', '.join(map(' '.join, missing))}: {NEEDED}" if missing else ""


def _turns(rng: np.random.Generator, values: Iterable):
    """Yields the values for ever, each round in an order of its own."""
    values = list(values)
    while True:
        yield from (values[index] for index in rng.permutation(len(values)))


def _groups(interactions: Interactions) -> list[str]:
    """Conditions of one profile value that neither few nor most users meet."""
    found = []
    for column, (name, values) in enumerate(interactions.attributes.items()):
        counts = np.bincount(np.asarray(interactions.profile)[:, column], minlength=len(values))
        low, high = (share * interactions.num_users for share in GROUP_SHARES)
        kept = (code for code in range(1, len(values)) if max(low, GROUP_USERS) <= counts[code] <= high)
        found += [f"{name}={values[code]}" for code in kept if not set(values[code]) & set(",=")]
    return found


def _kinds(zoo: ZooConfig, interactions: Interactions, suited: bool) -> list[tuple[str, str]]:
    """(attack, scope) of those of `zoo` that suit the data, or of those that do not."""
    groups = _groups(interactions)
    return [kind for kind in ATTACKS if kind[0] in zoo.attacks and _fits(kind, interactions, groups) is suited]


def _fits(kind: tuple[str, str], interactions: Interactions, groups: list[str]) -> bool:
    prompted_without = ATTACKS[kind].prompted and not interactions.attributes
    return not prompted_without and bool(groups if kind[1] == "group" else len(interactions.categories) > 1)


def _check_names(zoo: ZooConfig, kinds: list[tuple[str, str]]) -> None:
    for name, given, known in (
        ("attacks", zoo.attacks, {attack for attack, _ in ATTACKS}),
        ("backbones", zoo.backbones, BACKBONES),
    ):
        if unknown := [each for each in given if each not in known]:
            raise UserError(f"--{name}: must be some of {', '.join(sorted(known))}, got {unknown[0]!r}")
    if not kinds:
        raise UserError(f"--attacks: none of them suits the data: {NEEDED}; give other data or attacks")
