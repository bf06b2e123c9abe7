"""Figures of merit of a detection, of items and of checkpoints, and of a repair; intervals are 95 % ones."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import bootstrap, mannwhitneyu

from prec_backdoor.evaluation.statistics import DRAWS, Estimate, binomial_interval, is_few

CERTAIN = 1e-6  # no verdict counts as surer than this: one wrong 0 or 1 would make the cross-entropy infinite


def detection_auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a target, `positive` [V] bool, has a higher score [V] than another item; ties count half.

    It is NaN without targets or without other items.
    """
    targets, others = score[positive], score[~positive]
    if not len(targets) or not len(others):
        return float("nan")
    return float(mannwhitneyu(targets, others, method="asymptotic").statistic / len(targets) / len(others))


def precision_at(score: np.ndarray, positive: np.ndarray, number: int) -> float:
    """Share of targets among the `number` items with the highest scores."""
    return float(positive[np.argsort(-score, kind="stable")[:number]].mean())


def exposure_removed(before: float, after: float) -> float:
    """Share of the attacked model's exposure that a repair removes, from 0 to 1; 0 if there was no exposure."""
    return float(np.clip(1 - after / before, 0, 1)) if before > 0 else 0.0


def accuracy_lost(clean: float, repaired: float) -> float:
    """Share of a clean model's accuracy after the same fine-tuning that the repaired model lacks, at least 0."""
    return float(max(1 - repaired / clean, 0)) if clean > 0 else 0.0


def defence_effectiveness(removed: float, lost: float) -> float:
    """DER = (exposure removed - accuracy lost + 1) / 2: 0.5 for doing nothing, 1 for all exposure removed at no loss of accuracy.

    This is the defence effectiveness rating of BackdoorBench (Zhu et al., ICCV 2023) with exposure in place of attack success.
    """
    return (removed - lost + 1) / 2


def auc_between(attacked: np.ndarray, clean: np.ndarray) -> Estimate:
    """ROC-AUC over checkpoints: the chance that an attacked one [N] has a higher value than a clean one [M]; ties count half.

    The interval is a bootstrap over models, within each kind; where few pairs are in the wrong order, it is at least the exact
    one of as many trials as the smaller kind has models.
    """

    def auc(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
        first, second = np.moveaxis(first, axis, -1)[..., :, None], np.moveaxis(second, axis, -1)[..., None, :]
        return ((first > second) + 0.5 * (first == second)).mean((-2, -1))

    value, trials = float(auc(attacked, clean)), min(len(attacked), len(clean))
    estimate = Estimate(value, *_bootstrap((attacked, clean), auc))
    wrong = (1 - value) * len(attacked) * len(clean)
    if is_few(wrong, len(attacked) * len(clean) - wrong, trials):
        estimate = estimate.cover(binomial_interval(value, trials))
    return estimate


def cross_entropy(p_backdoored: np.ndarray, attacked: np.ndarray) -> Estimate:
    """Mean cross-entropy in nats of probabilities [N] for models of which some are `attacked` [N] bool; a coin has 0.693."""
    probability = np.clip(p_backdoored, CERTAIN, 1 - CERTAIN)
    return mean_of(-np.log(np.where(attacked, probability, 1 - probability)))


def mean_of(values: np.ndarray) -> Estimate:
    """The mean of values [N], with a bootstrap interval."""
    return Estimate(float(values.mean()), *_bootstrap((values,), np.mean))


def share_of(hits: np.ndarray) -> Estimate:
    """The share of hits [N] bool, with an exact interval."""
    value = float(hits.mean())
    return Estimate(value, *binomial_interval(value, len(hits)))


def _bootstrap(samples: Sequence[np.ndarray], statistic: Callable) -> tuple[float, float]:
    """The percentile interval; with a single model in a sample nothing can be drawn, and it is the value alone."""
    if min(map(len, samples)) < 2:
        value = float(statistic(*samples))
        return value, value
    interval = bootstrap(
        samples, statistic, n_resamples=DRAWS, batch=50, vectorized=True, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(interval.low), float(interval.high)
