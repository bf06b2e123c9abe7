"""Many audits into one score: p-values against clean models, the strongest and the mean evidence, false discoveries."""

from collections.abc import Sequence

import numpy as np

BULK = 0.9  # quantile that the scale of an audit's scores is taken from: far enough below targets, which are few
OWN = 0.95  # quantile of a model's p-values that is to be what it is by chance; targets are a few per cent
TAIL = 0.02  # share of the clean items from which on the tail is taken for exponential


def standardised(values: np.ndarray) -> np.ndarray:
    """[N] in units of the distance from the median to the 90 % quantile; 0 where there is none.

    Clean models differ in how far their scores spread, and the auditor's spread further than a provider's; they differ less
    in how the far ones compare with the bulk.
    """
    middle, high = np.quantile(values, [0.5, BULK])
    return (values - middle) / (high - middle) if high > middle else np.zeros(len(values))


def tail_probability(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """[N] chance that a clean item has at least each of `values`.

    The share of the `null` [M], and beyond its highest 2 % an exponential tail with their mean excess (Pickands, 1975, with
    shape 0, heavier than a normal one): a few thousand clean items say something of one in a million.
    """
    ordered = np.sort(null)
    share = (1 + len(null) - np.searchsorted(ordered, values, side="left")) / (1 + len(null))
    bar = np.quantile(ordered, 1 - TAIL)
    excess = ordered[ordered > bar] - bar
    if not len(excess):  # all alike: an audit that does not apply
        return np.minimum(share, 1.0)
    with np.errstate(over="ignore"):
        beyond = TAIL * np.exp(-(values - bar) / excess.mean())
    return np.clip(np.where(values > bar, beyond, share), 1e-300, 1)


def neg_log10_p(values: np.ndarray, nulls: Sequence[np.ndarray]) -> np.ndarray:
    """[N] -log10 of the chance of `values`: a mean over clean models, of each the items' values [M].

    Their tails differ, and in a pool of all the heaviest would decide.
    """
    return np.mean([np.log10(1 / tail_probability(values, null)) for null in nulls], axis=0)


def rescale_p_values(p_values: np.ndarray) -> np.ndarray:
    """[V] p-values, raised to the power that makes one in twenty of a model's items fall below 0.05; never larger.

    The auditor's clean models, of few users, have heavier tails than a provider's, so that clean items of the latter have too
    large p-values. How much is told by the model's own bulk, as in genomic control (Devlin & Roeder, 1999).
    """
    usual = np.quantile(-np.log10(p_values), OWN)
    return p_values ** max(-np.log10(1 - OWN) / usual, 1) if usual > 0 else p_values


def evidence(scores: dict[str, np.ndarray], nulls: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Audit -> [V] `neg_log10_p` of its standardised score with a clean model."""
    return {
        name: neg_log10_p(standardised(value), [standardised(null[name]) for null in nulls]) for name, value in scores.items()
    }


def combined(evidences: dict[str, np.ndarray]) -> np.ndarray:
    """[V] the strongest evidence, which finds what only one audit sees, plus the mean of all, which ranks what several see."""
    every = np.stack(list(evidences.values()))
    return every.max(0) + every.mean(0)


def discoveries(p_values: np.ndarray, rate: float) -> np.ndarray:
    """[V] bool: those whose expected share of false ones is at most `rate` (Benjamini & Hochberg, 1995)."""
    ordered = np.sort(p_values)
    below = np.flatnonzero(ordered <= rate * np.arange(1, len(ordered) + 1) / len(ordered))
    return p_values <= ordered[below[-1]] if len(below) else np.zeros(len(p_values), bool)
