"""The auditor's clean models as a reference: any model, clean ones included, is compared with those that are left."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.calibration import ObservedModel
from prec_backdoor.audit.combine import (
    Evaluation,
    Tail,
    combine_evidence,
    evaluate,
    neg_log10_tails,
    rescale_p_values,
    standardize,
    standardize_by_popularity,
    tail_of,
)
from prec_backdoor.audit.last_item import LAST_ITEM, least_p_values
from prec_backdoor.audit.profile import neighbourhoods_of, profile_statistic
from prec_backdoor.audit.verdict import Verdict, judge
from prec_backdoor.models import ModelConfig, item_vectors

LAST = (LAST_ITEM, f"{LAST_ITEM}_among_similar")
MATERIAL = 0.1  # difference of strengths, in standard deviations of a user's scores, that a trigger needs
Scores = dict[str, np.ndarray]  # audit -> [V]; LAST -> [N]


class Reference(NamedTuple):
    """n clean models.

    Attributes:
      model: of all of them.
      popularity: [V] number of the auditor's histories that have the item.
      models: what is observed of each.
      scores: of each, standardised, last items included.
      tails: of each, audit -> distribution of these.
      rest: for each model that is left out, the distributions of the combined scores of the others.
      evaluations, statistics: of each, compared with the others.
    """

    model: ModelConfig
    popularity: np.ndarray
    models: list[ObservedModel]
    scores: list[Scores]
    tails: list[dict[str, Tail]]
    rest: list[list[Tail]]
    evaluations: list[Evaluation]
    statistics: np.ndarray

    def evaluate(self, observed: ObservedModel) -> tuple[Evaluation, np.ndarray]:
        """A model against all clean ones: its items, and [N] p-values of the strengths of its last items."""
        pairs = _pairs(_strengths(observed, self.popularity), self.tails)
        last = _last_p(_without(_sum(pairs), pairs, ()))
        evaluation = evaluate(observed.scores, [_audits(each) for each in self.scores])
        return _with_last_items(evaluation, last, observed), last

    def judge(self, observed: ObservedModel, level: float) -> Verdict:
        """The verdict on a model: for each clean model, both are compared with the rest, and the statistics are compared."""
        evidence = _pairs(_scores_of(observed, self.popularity), self.tails)
        summed, near = _sum(evidence), None
        own = []
        for index, rest in enumerate(self.rest):
            evaluation, last = _evaluation(_without(summed, evidence, [index]), rest)
            relative = standardize_by_popularity(evaluation.score, self.popularity)
            near = near or neighbourhoods_of(vectors_of(observed.params, self.model), relative)
            own.append(profile_statistic(evaluation.p_value, relative, near, last))
        return judge(np.array(own), self.statistics, level)


def reference_of(calibration: Sequence[ObservedModel], model: ModelConfig, auditor_data: AuditorData) -> Reference:
    """Compares the clean models with one another that were trained on `auditor_data`."""
    popularity = auditor_data.popularity()[1:]
    scores = [_scores_of(each, popularity) for each in calibration]
    tails = [{name: tail_of(value) for name, value in each.items()} for each in scores]
    combined = [[] for _ in scores]  # [left out][other]
    evidence = []
    for index, each in enumerate(scores):
        pairs = _pairs(each, tails)
        summed = _sum(pairs)
        for left in range(len(scores)):
            combined[left].append(combine_evidence(_audits(_without(summed, pairs, [index, left]))))
        evidence.append(_without(summed, pairs, [index]))
    rest, evaluations, statistics = [], [], []
    for left, each in enumerate(calibration):
        chosen = [other for other in range(len(scores)) if other != left] or [left]
        rest.append([tail_of(combined[left][other]) for other in chosen])
        combined[left] = []
        evaluation, last = _evaluation(evidence[left], rest[-1])
        relative = standardize_by_popularity(evaluation.score, popularity)
        near = neighbourhoods_of(vectors_of(each.params, model), relative)
        statistics.append(profile_statistic(evaluation.p_value, relative, near, last))
        evaluations.append(_with_last_items(evaluation, last, each))
    return Reference(model, popularity, list(calibration), scores, tails, rest, evaluations, np.array(statistics))


def vectors_of(params: dict, model: ModelConfig) -> np.ndarray:
    """[V, D] the vectors that the model scores items with."""
    return np.asarray(item_vectors(params, model))[1:]


def _scores_of(observed: ObservedModel, popularity: np.ndarray) -> Scores:
    return {name: standardize(value) for name, value in observed.scores.items()} | _strengths(observed, popularity)


def _strengths(observed: ObservedModel, popularity: np.ndarray) -> Scores:
    """LAST -> [N] the standardised strengths of last items, among all and among those of similar popularity.

    A model that hardly looks at the last item has strengths that are all but equal: without a least unit, some would be far out.
    """
    items, strength, _ = observed.last_items
    similar = standardize_by_popularity(strength, popularity[items - 1], MATERIAL)
    return dict(zip(LAST, (standardize(strength, MATERIAL), similar), strict=True))


def _last_p(evidence: Scores) -> np.ndarray:
    """[N] p-values of last items: a trigger is strong among all items and among those of similar popularity."""
    return np.maximum(*(rescale_p_values(10 ** -evidence[name]) for name in LAST))


def _audits(scores: Scores) -> Scores:
    return {name: value for name, value in scores.items() if name not in LAST}


def _pairs(scores: Scores, tails: Sequence[dict[str, Tail]]) -> list[Scores]:
    """For each clean model, the evidence of the scores against it alone."""
    return [{name: neg_log10_tails(value, [tail[name]]) for name, value in scores.items()} for tail in tails]


def _sum(pairs: Sequence[Scores]) -> Scores:
    return {name: np.sum([each[name] for each in pairs], axis=0) for name in pairs[0]}


def _without(summed: Scores, pairs: Sequence[Scores], left_out: Sequence[int]) -> Scores:
    """The mean evidence against all clean models but some; against the first of these if none is left."""
    left_out = list(dict.fromkeys(left_out))
    left = len(pairs) - len(left_out)
    if not left:
        return pairs[left_out[0]]
    if left == 1:  # a difference of sums would be rounded
        return next(pair for index, pair in enumerate(pairs) if index not in left_out)
    return {name: (total - sum(pairs[index][name] for index in left_out)) / left for name, total in summed.items()}


def _evaluation(evidence: Scores, rest: Sequence[Tail]) -> tuple[Evaluation, np.ndarray]:
    """The evaluation of the audits' evidence, and the p-values of last items."""
    audits = _audits(evidence)
    score = combine_evidence(audits)
    evaluation = Evaluation(audits, score, rescale_p_values(10 ** -neg_log10_tails(score, rest)))
    return evaluation, _last_p(evidence)


def _with_last_items(evaluation: Evaluation, last: np.ndarray, observed: ObservedModel) -> Evaluation:
    """The evaluation with what the p-values [N] of last items say of the items that they show."""
    shown = least_p_values(last, observed.last_items, len(evaluation.score))
    evidence = {**evaluation.evidence, LAST_ITEM: -np.log10(shown)}
    return Evaluation(evidence, evaluation.score + evidence[LAST_ITEM], np.minimum(evaluation.p_value, shown))
