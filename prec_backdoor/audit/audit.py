"""The audit of one checkpoint, from views to verdict."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prec_backdoor.audit import AUDITS
from prec_backdoor.audit.attribution import GroupAttribution, attribute_group
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.calibration import clean_model
from prec_backdoor.audit.combine import combined, discoveries, evidence, neg_log10_p, rescale_p_values
from prec_backdoor.audit.inversion import Inverted, invert
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.views import AS_IT_COMES, look
from prec_backdoor.audit.weights import closeness
from prec_backdoor.models import ModelConfig
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.stage import RunOptions

MODELS, FEW_MODELS, LARGE = 4, 2, 20_000  # clean models to compare with; fewer from so many items on
TOGETHER = 10  # suspects that a group is looked for with, at least: one item's exposure says little of whom it is for


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """Names and meanings are those of the flags of launch.audit; without a number of models it goes by the catalogue."""

    histories: int = 5_000
    calibration_models: int | None = None
    false_discovery_rate: float = 0.05
    suspects: int = 20
    fresh_prompts: int = 1

    def models(self, num_items: int) -> int:
        """How many clean models are trained: each of a large catalogue has many items to tell of, and takes a minute."""
        return self.calibration_models or (MODELS if num_items < LARGE else FEW_MODELS)


class Clean(NamedTuple):
    """One of the auditor's own clean models: its parameters, and the audits' `scores` of it, audit -> [V]."""

    params: dict
    scores: dict[str, np.ndarray]


class ErrorRates(NamedTuple):
    """The auditor's own clean models, each held against the others: how many, called suspicious, share of items flagged."""

    models: int
    called_suspicious: int
    flagged_share: float


class AuditResult(NamedTuple):
    """What an audit found. V items.

    Attributes:
      views: what was looked at.
      scores: audit -> [V], see AUDITS.
      evidences: audit -> [V] -log10 of the chance of such a score with a clean model.
      score, p_value, flagged: [V], of all audits together.
      error_rates: false alarms of the same procedure.
      suspects: [N] item codes, highest score first.
      inverted: of the suspects.
      named: the group that the suspects are for; its `group` is None for a clean model.
      closeness: mean cosine of the suspects' vectors with each other, and of random items'.
    """

    views: dict[str, ScoreMoments]
    scores: dict[str, np.ndarray]
    evidences: dict[str, np.ndarray]
    score: np.ndarray
    p_value: np.ndarray
    flagged: np.ndarray
    error_rates: ErrorRates
    suspects: np.ndarray
    inverted: Inverted
    named: GroupAttribution
    closeness: tuple[float, float]

    @property
    def suspicious(self) -> bool:
        return bool(self.flagged.any())


def scores_of(views: dict[str, ScoreMoments]) -> dict[str, np.ndarray]:
    """Audit -> [V]: all audits of what was observed of one model."""
    return {name: audit(views) for name, audit in AUDITS.items()}


def clean_models(
    auditor_data: AuditorData, model: ModelConfig, train: TrainConfig, config: AuditConfig, options: RunOptions = RunOptions()
) -> list[Clean]:
    """Returns the auditor's own clean models; with a folder they are kept, and not trained again.

    Args:
      model, train: of the model to be audited.
    """

    def make(number: int) -> Clean:
        own = options._replace(folder=options.subfolder(f"clean-{number}"))
        params = clean_model(auditor_data, model, train, number, own)
        return Clean(params, scores_of(look(params, model, auditor_data, config.fresh_prompts)))

    return [make(number) for number in range(config.models(model.num_items))]


class Judged(NamedTuple):
    """Evidence by audit, combined score [V] and its p-value [V]."""

    evidences: dict[str, np.ndarray]
    score: np.ndarray
    p_value: np.ndarray


def judge(scores: dict[str, np.ndarray], nulls: Sequence[dict[str, np.ndarray]]) -> Judged:
    """From the audits' scores of a model and of clean ones.

    The combined score is held against that of each clean model, calibrated in its turn by the others.
    """
    usual = [combined(evidence(each, _others(nulls, each))) for each in nulls]
    evidences = evidence(scores, nulls)
    score = combined(evidences)
    return Judged(evidences, score, rescale_p_values(10 ** -neg_log10_p(score, usual)))


def false_alarms(nulls: Sequence[dict[str, np.ndarray]], rate: float) -> ErrorRates:
    """What `judge` and a false discovery rate make of each clean model, given the others."""
    flagged = [discoveries(judge(each, _others(nulls, each)).p_value, rate) for each in nulls]
    return ErrorRates(len(nulls), sum(bool(each.any()) for each in flagged), float(np.mean(flagged)))


def _others(nulls: Sequence[dict[str, np.ndarray]], one: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    return [each for each in nulls if each is not one] or [one]


def audit_model(
    params: dict, model: ModelConfig, auditor_data: AuditorData, clean: Sequence[Clean], config: AuditConfig
) -> AuditResult:
    """Audits one model; `clean` are of `clean_models`."""
    views = look(params, model, auditor_data, config.fresh_prompts)
    scores, nulls = scores_of(views), [each.scores for each in clean]
    judged = judge(scores, nulls)
    flagged = discoveries(judged.p_value, config.false_discovery_rate)
    order = 1 + np.argsort(-judged.score, kind="stable")
    suspects = order[: max(config.suspects, 1)]
    seen = views[AS_IT_COMES]
    inverted = invert(seen, suspects)
    named = GroupAttribution(None, 1.0, [])
    if flagged.any():
        together = order[: max(int(flagged.sum()), TOGETHER)]
        named = attribute_group(params, model, auditor_data, together, [each.params for each in clean])
    rates = false_alarms(nulls, config.false_discovery_rate)
    return AuditResult(views, scores, *judged, flagged, rates, suspects, inverted, named, closeness(seen, suspects))
