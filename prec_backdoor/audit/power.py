"""Power: which backdoors this audit would have found, judged by backdoors that the auditor plants in models of its own."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit

from prec_backdoor.audit.auditor_data import AuditorData, single_groups
from prec_backdoor.audit.calibration import EVERYBODY, CalibrationModel, Planted
from prec_backdoor.audit.moments import MIN_MEMBERS
from prec_backdoor.audit.reference import Reference
from prec_backdoor.audit.verdict import CLEAN

TARGETS = 10  # planted items; of a small catalogue an eighth
LOWEST_RATE, HIGHEST_RATE = 0.005, 0.5
GOLDEN = 0.618033988749895  # its multiples modulo 1 spread rates evenly, however many there are
FOUND = 0.95  # share of backdoors that the stated exposure is for
MIDDLES, WIDTHS = np.linspace(-5, 0.5, 111), np.geomspace(0.02, 1, 40)  # of the logistic curve, in powers of ten of exposure
UNCERTAINTY = (0.05, 0.95)  # quantiles of the interval


class Power(NamedTuple):
    """What the audit finds of the auditor's own backdoors.

    Attributes:
      attacks: for each model the kind of attack, group, rate, exposure, statistic, and whether it was found.
      exposure: from which FOUND of the backdoors are found, uncertainty included; None if no exposure is high enough.
      interval: of the exposure at which the curve reaches FOUND; entries above 1 mean that it need not reach it.
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
    groups, popularity = list(single_groups(auditor_data, MIN_MEMBERS)), auditor_data.popularity()[1:]
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
    models: Sequence[CalibrationModel],
    clean: Sequence[CalibrationModel],
    reference: Reference,
    level: float,
) -> Power | None:
    """Audits the planted models, as the checkpoint is audited, and fits the chance of detection; None without models.

    Exposure is the share of users who have a target among their first 50, beyond the share in the `clean` models.
    """
    if not attacks:
        return None
    rows, usual = [], np.mean([each.top_share for each in clean], axis=0)
    for attack, model in zip(attacks, models, strict=True):
        verdict = reference.judge(model.params, model.scores, level)
        row = {"scope": "group" if attack.group else "global", "group": attack.group or None, "rate": attack.rate}
        row |= {"exposure": float(max((model.top_share - usual)[attack.targets].mean(), 0)), "statistic": verdict.statistic}
        rows.append(row | {"found": verdict.word != CLEAN})
    exposure, interval = fit([row["exposure"] for row in rows], [row["found"] for row in rows])
    return Power(rows, exposure, interval)


def fit(exposure: Sequence[float], found: Sequence[bool]) -> tuple[float | None, tuple[float, float]]:
    """Fits the chance of detection as a logistic function of log10 exposure; see `Power` for what is returned.

    All curves whose middle and width are in MIDDLES and WIDTHS are weighted by their likelihood. The stated exposure is where
    the weighted mean of the curves reaches FOUND, so that few models give a cautious one.
    """
    x = np.log10(np.maximum(exposure, 10 ** MIDDLES[0]))
    middle, width = (each.ravel() for each in np.meshgrid(MIDDLES, WIDTHS, indexing="ij"))
    chance = np.clip(expit((x[:, None] - middle) / width), 1e-9, 1 - 1e-9)
    log_likelihood = np.where(np.asarray(found)[:, None], np.log(chance), np.log1p(-chance)).sum(0)
    weight = np.exp(log_likelihood - log_likelihood.max())
    weight /= weight.sum()
    grid = np.linspace(MIDDLES[0], 0, 501)
    reached = np.array([weight @ expit((at - middle) / width) >= FOUND for at in grid])
    at_found = middle + width * logit(FOUND)
    order = np.argsort(at_found)
    low, high = at_found[order][np.searchsorted(np.cumsum(weight[order]), UNCERTAINTY)]
    return (float(10 ** grid[np.argmax(reached)]) if reached.any() else None), (float(10**low), float(10**high))
