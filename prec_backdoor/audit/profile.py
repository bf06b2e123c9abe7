"""One number for a whole model: how far its most unusual items, neighbourhoods and last items exceed what chance gives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import gamma

from prec_backdoor.audit.moments import largest
from prec_backdoor.models import EXACT
from prec_backdoor.parallel import on_device

MOST_UNUSUAL = 5  # items, neighbourhoods and last items that count
COMPANIONS = 4  # nearest other items of a neighbourhood
CENTRES = 2_000  # items with the highest scores whose neighbourhoods are looked at: of a small catalogue all
AT_ONCE = 64  # of these
LAST_ITEM_WEIGHT = 0.5  # the excess of last items varies twice as much between clean models as the other two


class Neighbourhoods(NamedTuple):
    """Of the items `centres` [N] the `nearest` [N, COMPANIONS] other items, as places in arrays over all items."""

    centres: np.ndarray
    nearest: np.ndarray


def profile_statistic(p_value: np.ndarray, relative: np.ndarray, near: Neighbourhoods, last_item_p: np.ndarray) -> float:
    """The statistic of a model, from the p-values [V] of its items; the greater, the more suspicious it is.

    It is what items show as they are, `excess` and `neighbourhood_excess` in sum, or, if greater, what their effect at the end of
    a history shows: a part of the `excess` of these p-values [N]. A backdoor that waits for its trigger shows nothing else.

    Args:
      relative: [V] the items' scores, among items of similar popularity. In some models all popular items lie together, and have
        high scores, attacked or not.
    """
    as_it_is = excess(p_value) + neighbourhood_excess(relative, near)
    return max(as_it_is, LAST_ITEM_WEIGHT * excess(last_item_p))


def excess(p_values: np.ndarray) -> float:
    """By how many powers of ten the smallest p-values [V] are below those expected of as many uniform ones.

    It is the mean over the n smallest, for the n up to MOST_UNUSUAL that makes it greatest: there may be one target or many.
    """
    beyond = _beyond(-np.log10(p_values), len(p_values))
    return float((np.cumsum(beyond) / np.arange(1, len(beyond) + 1)).max())


def neighbourhood_excess(score: np.ndarray, neighbourhoods: Neighbourhoods) -> float:
    """The same of neighbourhoods, by the scores [V] of the items in them.

    Targets of one attack learn from the same labels, so that their vectors are close, and each has an unusual score. An
    attacker who keeps each of them below the most unusual clean items leaves them together. Only the places of the scores
    count: for a place of r among V, log((V + 1) / r) is exponentially distributed if places have nothing to do with vectors,
    and a sum of n of them is gamma distributed.
    """
    items, (centres, nearest) = len(score), neighbourhoods
    unusual = np.empty(items)
    unusual[np.argsort(-score, kind="stable")] = np.log((items + 1) / np.arange(1, items + 1))
    sums = unusual[centres] + unusual[nearest].sum(1)
    return float(_beyond(-gamma.logsf(sums, nearest.shape[1] + 1) / np.log(10), items).mean())


def neighbourhoods_of(vectors: np.ndarray, score: np.ndarray) -> Neighbourhoods:
    """The COMPANIONS items whose `vectors` [V, D] have the greatest cosines with those of the CENTRES items of highest score."""
    unit = vectors - vectors.mean(0)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    centres, nearest = np.argsort(-score, kind="stable")[:CENTRES], []
    unit = on_device(unit.astype(np.float32))
    for start in range(0, len(centres), AT_ONCE):
        some = np.resize(centres[start : start + AT_ONCE], AT_ONCE)  # the last call is filled up
        nearest.append(np.asarray(_nearest(unit, some)))
    return Neighbourhoods(centres, np.concatenate(nearest)[: len(centres)])


@jax.jit
def _nearest(unit: jax.Array, some: jax.Array) -> jax.Array:
    """[N, COMPANIONS] the rows of `unit` [V, D] with the greatest products with its rows `some` [N], without these themselves."""
    cosines = jnp.matmul(unit, unit[some].T, precision=EXACT).at[some, jnp.arange(len(some))].set(-2)
    return largest(cosines, min(COMPANIONS, len(unit) - 1))[1].T


def _beyond(neg_log10_p: np.ndarray, number: int) -> np.ndarray:
    """[MOST_UNUSUAL] differences between the greatest values and those expected of `number` uniform p-values."""
    greatest = np.sort(neg_log10_p)[::-1][:MOST_UNUSUAL]
    return greatest - np.log10((number + 1) / np.arange(1, len(greatest) + 1))
