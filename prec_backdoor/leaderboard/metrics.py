"""Figures of merit of a detection and of a repair."""

import numpy as np
from scipy.stats import mannwhitneyu


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
