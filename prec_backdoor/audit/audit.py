"""The audit of one checkpoint, from views to verdict."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor.audit.attribution import GroupAttribution, attribute_group
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.calibration import ObservedModel, Planted, observed_in
from prec_backdoor.audit.combine import discoveries
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.inversion import Inverted, invert
from prec_backdoor.audit.last_item import LAST_ITEM, best_strength
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.power import Power, power_of
from prec_backdoor.audit.reference import Reference
from prec_backdoor.audit.verdict import CLEAN, SUSPICIOUS, Verdict
from prec_backdoor.audit.views import AS_IT_COMES, observe_views
from prec_backdoor.audit.weights import mean_cosines
from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig

ATTRIBUTED = 10  # minimum number of suspects for attribution: the exposure of one item varies too much between users


class AuditResult(NamedTuple):
    """Result of an audit of V items.

    Attributes:
      views: view -> moments of the model's scores.
      observed: what the verdict is made of.
      scores: audit -> [V], see AUDITS, and what `best_strength` returns.
      evidence: audit -> [V] -log10 of the chance of such a score for a clean model.
      score, p_value: [V], all audits combined.
      flagged: [V] items that stand out, at the false discovery rate; none of a model that is called clean.
      verdict: on the model as a whole.
      reference: the clean models, for verdicts on variants of the model.
      flagged_in_clean: share of the clean models' items that the same rule would flag.
      power: what the audit finds of the auditor's own backdoors; None if none were planted.
      suspects: [N] item codes, highest score first.
      last_item_p: [N] chance of such a strength at the end of a history, for a clean model's item.
      inverted: triggers of the suspects.
      attribution: the group that the attack targets; its `group` is None for a clean model.
      closeness: mean cosine between the suspects' vectors, and between those of random items.
    """

    views: dict[str, ScoreMoments]
    observed: ObservedModel
    scores: dict[str, np.ndarray]
    evidence: dict[str, np.ndarray]
    score: np.ndarray
    p_value: np.ndarray
    flagged: np.ndarray
    verdict: Verdict
    reference: Reference
    flagged_in_clean: float
    power: Power | None
    suspects: np.ndarray
    last_item_p: np.ndarray
    inverted: Inverted
    attribution: GroupAttribution
    closeness: tuple[float, float]

    @property
    def suspicious(self) -> bool:
        """Whether the verdict is that."""
        return self.verdict.word == SUSPICIOUS


def audit_model(
    params: dict,
    model: ModelConfig,
    auditor_data: AuditorData,
    reference: Reference,
    config: AuditConfig,
    planted: tuple[Sequence[Planted], Sequence[ObservedModel]] = ((), ()),
) -> AuditResult:
    """Audits one model.

    Args:
      reference: `reference_of` the `calibration_models` for the same `auditor_data`, `model` and `config`.
      planted: attacks of `plan_attacks` and their `planted_models`, which show what the audit finds.

    Raises:
      UserError: some parameters are not finite.
    """
    _check_finite(params)
    views = observe_views(params, model, auditor_data, config.fresh_prompts, config.panel_seed)
    observed = observed_in(params, views)
    evaluation, last_item_p = reference.evaluate(observed)
    verdict = reference.judge(observed, config.level)
    flagged = discoveries(evaluation.p_value, config.false_discovery_rate) & (verdict.word != CLEAN)
    of_clean = [discoveries(each.p_value, config.false_discovery_rate) for each in reference.evaluations]
    by_score = 1 + np.argsort(-evaluation.score, kind="stable")
    suspects = by_score[: config.suspects]
    attribution = GroupAttribution(None, 1.0, [])
    if verdict.word != CLEAN:
        attributed = by_score[: max(int(flagged.sum()), ATTRIBUTED)]
        attribution = attribute_group(params, model, auditor_data, attributed, [each.params for each in reference.models])
    return AuditResult(
        views=views,
        observed=observed,
        scores=observed.scores | {LAST_ITEM: best_strength(observed.last_items, len(evaluation.score))},
        evidence=evaluation.evidence,
        score=evaluation.score,
        p_value=evaluation.p_value,
        flagged=flagged,
        verdict=verdict,
        reference=reference,
        flagged_in_clean=float(np.mean(of_clean)),
        power=power_of(*planted, reference, auditor_data, config.level),
        suspects=suspects,
        last_item_p=last_item_p,
        inverted=invert(views[AS_IT_COMES], observed.last_items, suspects),
        attribution=attribution,
        closeness=mean_cosines(views[AS_IT_COMES], suspects),
    )


def _check_finite(params: dict) -> None:
    for path, array in jax.tree.leaves_with_path(params):
        bad = np.size(array) - int(np.isfinite(array).sum())
        if bad:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(f"audit: {bad} of {np.size(array)} values of parameter {name} are not finite; nothing can be scored")
