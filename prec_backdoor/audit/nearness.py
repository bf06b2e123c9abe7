"""Nearness: how close an item's vector is to those of a few other items, given what is known of the item."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.audit.exposure import log_popularity
from prec_backdoor.audit.moments import ScoreMoments, largest
from prec_backdoor.audit.robust import residual
from prec_backdoor.audit.views import AS_IT_COMES
from prec_backdoor.audit.weights import scored_with
from prec_backdoor.models import EXACT

NEAREST = 4  # which of the other items, the nearest first
RIDGE = 1.0
AT_ONCE = 256  # items


def nearness(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] residual, given log popularity, of the cosine between an item's vector and that of the NEAREST-th nearest other item.

    Of each vector only that part counts which the item's category and popularity do not explain (ridge regression). Targets
    learn from the same labels whatever they are, so that these parts are alike: a spectral signature (Tran et al., NeurIPS
    2018) that a handful of items shows as well.
    """
    moments = views[AS_IT_COMES]
    vectors, category, popularity = scored_with(moments)[1:], moments.auditor_data.category[1:], log_popularity(moments)
    design = np.concatenate([np.eye(category.max() + 1)[category], np.stack([popularity, popularity**2], 1)], axis=1)
    gram = design.T @ design + RIDGE * np.eye(design.shape[1])
    unexplained = vectors - vectors.mean(0)
    unexplained = unexplained - design @ np.linalg.solve(gram, design.T @ unexplained)
    unit = unexplained / np.maximum(np.linalg.norm(unexplained, axis=1, keepdims=True), 1e-12)
    return residual(nearest_cosines(unit.astype(np.float32), min(NEAREST, len(unit) - 1)), popularity)


def nearest_cosines(unit: np.ndarray, number: int) -> np.ndarray:
    """[V] the `number`-th largest inner product of each of the vectors [V, E] with the others."""
    rows = np.arange(-(-len(unit) // AT_ONCE) * AT_ONCE).reshape(-1, AT_ONCE) % len(unit)  # the last block is filled up
    return np.asarray(_compiled(number)(unit, rows)).ravel()[: len(unit)]


@functools.lru_cache(maxsize=4)
def _compiled(number: int):
    @jax.jit
    def of_all(unit, blocks):
        def of_block(rows):
            cosines = jnp.matmul(unit[rows], unit.T, precision=EXACT)
            return largest(cosines.at[jnp.arange(AT_ONCE), rows].set(-jnp.inf), number)[0][:, -1]

        return jax.lax.map(of_block, blocks)

    return of_all
