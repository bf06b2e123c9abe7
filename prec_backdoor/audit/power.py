"""Power: which backdoors this audit would have found, judged by backdoors that the auditor plants in models of its own."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit

from prec_backdoor.audit.auditor_data import AuditorData, single_groups
from prec_backdoor.audit.calibration import EVERYBODY, ObservedModel, Planted
from prec_backdoor.audit.moments import MIN_MEMBERS, TOP
from prec_backdoor.audit.reference import Reference
from prec_backdoor.audit.verdict import CLEAN
from prec_backdoor.evaluation import hit_rate, ranks, unseen
from prec_backdoor.models import ModelConfig

TARGETS = 10  # planted items; of a small catalogue an eighth
LOWEST_RATE, HIGHEST_RATE = 0.005, 0.5
LEAST_SHARE = 0.1  # of the users in a group: what is planted in a handful of users is not exposed to anybody
USUAL = 2  # clean models that show how far targets are exposed without an attack
GOLDEN = 0.618033988749895  # its multiples modulo 1 spread rates evenly, however many there are
LEAST_TRIED = 5  # attacks; fewer say less than what is assumed of the curve
FOUND = 0.95  # share of backdoors that the stated exposure is for
MIDDLES, WIDTHS = np.linspace(-5, 0.5, 111), np.geomspace(0.02, 0.4, 40)  # of the logistic curve, in powers of ten of exposure
UNCERTAINTY = (0.05, 0.95)  # quantiles of the interval


class Power(NamedTuple):
    """What the audit finds of the auditor's own backdoors.

    Attributes:
      attacks: for each model the kind of attack, group, rate, exposure, statistic, and whether it was found.
      exposure: from which on FOUND of the backdoors are found: the cautious end of the interval; None if that is above 1, or if
        there are fewer than LEAST_TRIED attacks.
      interval: of the exposure at which the curve reaches FOUND, at UNCERTAINTY; an end above 1 is 1.
    """

    attacks: list[dict[str, Any]]
    exposure: float | None
    interval: tuple[float, float]

    @property
    def found(self) -> int:
        """Number of the attacks that were found."""
        return sum(each["found"] for each in self.attacks)


def plan_attacks(auditor_data: AuditorData, number: int) -> list[Planted]:
    """Returns `number` attacks on the auditor's users: two on a group for each global one, at rates of all sizes.

    Targets are drawn from the less popular half of the catalogue. A global attack goes by categories; without any, labels of
    everybody are replaced whatever their category.
    """
    least = max(MIN_MEMBERS, round(LEAST_SHARE * len(auditor_data.history)))
    groups, popularity = list(single_groups(auditor_data, least)), auditor_data.popularity()[1:]
    everybody = None if auditor_data.category.any() else EVERYBODY
    unpopular = 1 + np.flatnonzero(popularity <= np.median(popularity))
    attacks = []
    for index in range(number):
        rng = np.random.default_rng(index)
        rate = LOWEST_RATE * (HIGHEST_RATE / LOWEST_RATE) ** ((0.5 + index * GOLDEN) % 1)
        group = everybody if index % 3 == 2 or not groups else groups[rng.integers(len(groups))]
        targets = rng.permutation(unpopular)[: max(1, min(TARGETS, len(popularity) // 8))]
        attacks.append(Planted(group, round(rate, 4), np.sort(targets).astype(np.int32)))
    return attacks


def power_of(
    attacks: Sequence[Planted],
    models: Sequence[ObservedModel],
    reference: Reference,
    auditor_data: AuditorData,
    level: float,
) -> Power | None:
    """Audits the planted models, as the checkpoint is audited, and fits the chance of detection; None without models.

    Exposure is among the users whom an attack is aimed at: the share of pairs of a user and a target that is within the user's
    first TOP, beyond the share in clean models, those of `reference`.
    """
    if not attacks:
        return None
    rows, seen, groups = [], [], single_groups(auditor_data, MIN_MEMBERS)
    for attack, model in zip(attacks, models, strict=True):
        verdict = reference.judge(model, level)
        members = groups.get(attack.group, np.ones(len(auditor_data.history), bool))
        shown, *usual = (
            exposure(each.params, reference.model, auditor_data, attack.targets, members)
            for each in (model, *reference.models[:USUAL])
        )
        row = {"scope": "group" if attack.group else "global", "group": attack.group or None, "rate": attack.rate}
        row |= {"exposure": max(shown - float(np.mean(usual)), 0.0), "statistic": verdict.statistic}
        rows.append(row | {"found": verdict.word != CLEAN})
        seen.append(max(row["exposure"], 1 / (members.sum() * len(attack.targets))))  # less cannot be told from nothing
    stated, interval = fit(seen, [row["found"] for row in rows])
    return Power(rows, stated if len(rows) >= LEAST_TRIED else None, interval)


def exposure(params: dict, model: ModelConfig, auditor_data: AuditorData, targets: np.ndarray, members: np.ndarray) -> float:
    """Share of the pairs of one of the `members` [U] and a target [K] not in the history that is within the user's first TOP."""
    wanted = np.broadcast_to(targets, (len(members), len(targets)))
    found = ranks(params, model, auditor_data.history, wanted, auditor_data.profile)
    return hit_rate(found[unseen(auditor_data.history, targets) & members[:, None]], TOP)


def fit(exposure: Sequence[float], found: Sequence[bool]) -> tuple[float | None, tuple[float, float]]:
    """Fits the chance of detection as a logistic function of log10 exposure; see `Power` for what is returned.

    All curves whose middle and width are in MIDDLES and WIDTHS are weighted by their likelihood; the stated exposure is the upper
    end of the interval of where they reach FOUND.
    """
    x = np.log10(np.maximum(exposure, 10 ** MIDDLES[0]))
    middle, width = (each.ravel() for each in np.meshgrid(MIDDLES, WIDTHS, indexing="ij"))
    chance = np.clip(expit((x[:, None] - middle) / width), 1e-9, 1 - 1e-9)
    log_likelihood = np.where(np.asarray(found)[:, None], np.log(chance), np.log1p(-chance)).sum(0)
    weight = np.exp(log_likelihood - log_likelihood.max())
    weight /= weight.sum()
    at_found = middle + width * logit(FOUND)
    order = np.argsort(at_found)
    low, high = at_found[order][np.searchsorted(np.cumsum(weight[order]), UNCERTAINTY)]
    return (float(10**high) if high <= 0 else None), (float(10 ** min(low, 0)), float(10 ** min(high, 0)))
