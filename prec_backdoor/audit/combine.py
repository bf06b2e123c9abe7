"""From the scores of several audits to one p-value an item: comparison with clean models, combination, false discoveries."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import false_discovery_control

BULK = 0.9  # quantile that sets the scale of an audit's scores; targets, a few per cent of the items, lie above it
OWN = 0.95  # quantile of a model's p-values that is made equal to its uniform value
ALIKE = 50  # items that tell how much items of one popularity differ
LEAST_P = 1e-307  # a p-value of 0 would make the evidence, and so the statistic, infinite
TAIL = 0.02  # share of the clean items to whose scores an exponential tail is fitted
LIGHTEST = 0.1  # mean excess of a tail, at least; standardized normal scores have 0.33


class Evaluation(NamedTuple):
    """Evidence: audit -> [V] -log10 of the chance of such a score for a clean model; combined score [V] and its p-value [V]."""

    evidence: dict[str, np.ndarray]
    score: np.ndarray
    p_value: np.ndarray


def evaluate(scores: dict[str, np.ndarray], clean: Sequence[dict[str, np.ndarray]]) -> Evaluation:
    """Evaluates the audits' scores of a model, audit -> [V], against those of clean models, audit -> [M] each.

    The combined score is compared with the combined scores of the clean models, each of which is calibrated by the other ones.
    """
    clean_scores = [combine_evidence(evidence_of(each, others(clean, number))) for number, each in enumerate(clean)]
    evidence = evidence_of(scores, clean)
    score = combine_evidence(evidence)
    return Evaluation(evidence, score, rescale_p_values(10 ** -neg_log10_p(score, clean_scores)))


def others(clean: Sequence[dict[str, np.ndarray]], number: int) -> list[dict[str, np.ndarray]]:
    """All clean models except the `number`-th; a single one has no other, and is compared with itself."""
    return [each for index, each in enumerate(clean) if index != number] or list(clean)


def evidence_of(scores: dict[str, np.ndarray], clean: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Audit -> [V] `neg_log10_p` of the standardized scores."""
    return {name: neg_log10_p(standardize(value), [standardize(each[name]) for each in clean]) for name, value in scores.items()}


def combine_evidence(evidence: dict[str, np.ndarray]) -> np.ndarray:
    """[V] maximum over audits, which finds what one audit alone detects, plus the mean, which ranks what several detect."""
    stacked = np.stack(list(evidence.values()))
    return stacked.max(0) + stacked.mean(0)


def standardize(values: np.ndarray, least: float = 0.0) -> np.ndarray:
    """[N] distance from the median in units of the distance between median and 90 % quantile; 0 if that is 0.

    The spread of scores differs between clean models and is larger for the auditor's than for a provider's. The ratio of far
    scores to the bulk differs less.

    Args:
      least: the smallest unit, where a smaller difference means nothing.
    """
    median, high = np.quantile(values, [0.5, BULK])
    unit = max(high - median, least)
    return (values - median) / unit if unit else np.zeros(len(values))


def standardize_by_popularity(values: np.ndarray, popularity: np.ndarray, least: float = 0.0) -> np.ndarray:
    """[N] `values` of items, each `standardize`d among items of similar popularity.

    What a model makes of an item that it has seen once varies more between items than what it makes of a popular one.

    Args:
      popularity: [N] numbers of histories that have the items. Those that round up to one power of two are similar; groups of
        fewer than ALIKE items join the next one.
    """
    power = np.ceil(np.log2(np.maximum(popularity, 0.5)))
    found, rest = np.zeros(len(values)), np.ones(len(values), bool)
    for highest in np.unique(power):
        group = rest & (power <= highest)
        if ALIKE <= group.sum() <= rest.sum() - ALIKE:
            found[group] = standardize(values[group], least)
            rest &= ~group
    found[rest] = standardize(values[rest], least)
    return found


class Tail(NamedTuple):
    """The distribution of clean scores: all of them in order; above `threshold` an exponential tail of this mean excess."""

    ordered: np.ndarray
    threshold: float
    excess: float

    def probability(self, values: np.ndarray) -> np.ndarray:
        """[N] chance that a clean item has at least each of `values`."""
        number = len(self.ordered)
        share = (1 + number - np.searchsorted(self.ordered, values, side="left")) / (1 + number)
        if not self.excess:  # all scores are equal: the audit does not apply to these models
            return np.minimum(share, 1.0)
        with np.errstate(over="ignore"):
            tail = TAIL * np.exp(-(values - self.threshold) / self.excess)
        return np.clip(np.where(values > self.threshold, tail, share), 1e-300, 1)


def tail_of(clean: np.ndarray) -> Tail:
    """The distribution of the `clean` [M] scores.

    Above their highest 2 % it is an exponential tail with the mean excess of these (Pickands, 1975, with shape 0; a normal tail
    is lighter), so that a few thousand clean items give chances of one in a million. Of scores that are nearly all equal it is
    not as light as they are.
    """
    ordered = np.sort(clean)
    threshold = np.quantile(ordered, 1 - TAIL)
    excess = ordered[ordered > threshold] - threshold
    return Tail(ordered, threshold, max(excess.mean(), LIGHTEST) if len(excess) else 0.0)


def neg_log10_tails(values: np.ndarray, tails: Sequence[Tail]) -> np.ndarray:
    """[N] -log10 of the chance of `values`, averaged over the distributions."""
    return np.mean([np.log10(1 / tail.probability(values)) for tail in tails], axis=0)


def neg_log10_p(values: np.ndarray, clean: Sequence[np.ndarray]) -> np.ndarray:
    """[N] -log10 of the chance of `values`, averaged over clean models with scores [M] each.

    The tails of clean models differ; in a pool of all scores the heaviest tail would dominate.
    """
    return neg_log10_tails(values, [tail_of(each) for each in clean])


def rescale_p_values(p_values: np.ndarray) -> np.ndarray:
    """[V] p-values raised to the power that puts 5 % of the model's items below 0.05; never larger than before.

    The auditor's clean models, trained on few users, have heavier tails than a provider's, so that p-values of a provider's clean
    items are too large. The bulk of the model's items shows by how much, as in genomic control (Devlin & Roeder, 1999).
    """
    observed = np.quantile(-np.log10(p_values), OWN)
    return np.maximum(p_values ** max(-np.log10(1 - OWN) / observed, 1), LEAST_P) if observed > 0 else p_values


def discoveries(p_values: np.ndarray, rate: float) -> np.ndarray:
    """[V] bool: flagged items, of which the expected share of clean ones is at most `rate` (Benjamini & Hochberg, 1995)."""
    return false_discovery_control(p_values) <= rate
