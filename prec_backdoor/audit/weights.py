"""Weight evidence: where an item's vector points, for what its popularity and its length are."""

import numpy as np

from prec_backdoor.audit.exposure import log_popularity
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import residual
from prec_backdoor.audit.views import AS_IT_COMES


def weights(views: dict[str, ScoreMoments]) -> np.ndarray:
    """[V] robust z of the cosine between the item's vector and the mean user vector where its category is expected.

    Given log popularity. The norm tells nothing by itself: that of targets is large at high rates and small at low ones.
    """
    seen = views[AS_IT_COMES]
    vectors, category = seen.params["items"][1:], seen.auditor_data.category[1:]
    wanted = (seen.context.T @ seen.hidden)[category]
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted, axis=1)
    return residual((vectors * wanted).sum(1) / np.maximum(norms, 1e-12), log_popularity(seen))


def closeness(seen: ScoreMoments, suspects: np.ndarray) -> tuple[float, float]:
    """Mean cosine of the vectors of `suspects` [N] with each other, and of as many random items: targets move together."""
    vectors = seen.params["items"] - seen.params["items"][1:].mean(0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng(0)

    def mean_cosine(items):
        gram = vectors[items] @ vectors[items].T
        return (gram.sum() - np.trace(gram)) / max(len(items) * (len(items) - 1), 1)

    usual = [mean_cosine(1 + rng.permutation(len(vectors) - 1)[: len(suspects)]) for _ in range(99)]
    return float(mean_cosine(suspects)), float(np.mean(usual))
