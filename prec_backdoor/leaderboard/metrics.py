"""What a detection and a repair are worth, as numbers."""

import numpy as np


def detection_auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a target [V] bool has a higher score [V] than another item; ties count half (Mann & Whitney, 1947)."""
    others = np.sort(score[~positive])
    below, up_to = (np.searchsorted(others, score[positive], side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(others))


def precision_at(score: np.ndarray, positive: np.ndarray, number: int) -> float:
    """Share of targets among the `number` items with the highest scores."""
    return float(positive[np.argsort(-score, kind="stable")[:number]].mean())


def exposure_removed(before: float, after: float) -> float:
    """Share of the attacked model's exposure that a repair takes away, from 0 to 1; 0 where there was none."""
    return float(np.clip(1 - after / before, 0, 1)) if before > 0 else 0.0


def accuracy_lost(clean: float, repaired: float) -> float:
    """Share of a clean model's accuracy after the same fine-tuning that the repaired model lacks, not below 0."""
    return float(max(1 - repaired / clean, 0)) if clean > 0 else 0.0


def defence_effectiveness(removed: float, lost: float) -> float:
    """DER = (exposure removed - accuracy lost + 1) / 2: 0.5 for doing nothing, 1 for all of one without any of the other.

    As BackdoorBench's defence effectiveness rating (Zhu et al., ICCV 2023), with exposure for the attack's success rate.
    """
    return (removed - lost + 1) / 2
