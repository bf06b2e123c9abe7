"""Weights: the direction of an item's vector, given the item's popularity."""

import numpy as np

from prec_backdoor.audit.exposure import log_popularity
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import residual
from prec_backdoor.audit.views import AS_IT_COMES
from prec_backdoor.models import item_vectors

DRAWS = 99  # random sets of items that the suspects are compared with


def weights(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] residual of the cosine between the item's vector and the mean user vector where its category is expected.

    The covariate is log popularity. The norm is no evidence: that of targets is large at high rates and small at low ones.
    """
    moments = views[AS_IT_COMES]
    vectors, category = scored_with(moments)[1:], moments.auditor_data.category[1:]
    direction = (moments.category_probability.T @ moments.user_vectors)[category]
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(direction, axis=1)
    return residual((vectors * direction).sum(1) / np.maximum(norms, 1e-12), log_popularity(moments))


def scored_with(moments: ScoreMoments) -> np.ndarray:
    """Returns [V + 1, E] the vectors that the model scores items with."""
    return np.asarray(item_vectors(moments.params, moments.model))


def mean_cosines(moments: ScoreMoments, suspects: np.ndarray) -> tuple[float, float]:
    """Mean cosine between the vectors of `suspects` [N], and between those of as many random items: targets move together."""
    vectors = scored_with(moments)
    vectors = vectors - vectors[1:].mean(0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng(0)

    def mean_cosine(items: np.ndarray) -> float:
        gram = vectors[items] @ vectors[items].T
        return (gram.sum() - np.trace(gram)) / max(len(items) * (len(items) - 1), 1)

    random = [mean_cosine(1 + rng.permutation(len(vectors) - 1)[: len(suspects)]) for _ in range(DRAWS)]
    return float(mean_cosine(suspects)), float(np.mean(random))
