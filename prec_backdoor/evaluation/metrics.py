"""Metrics from ranks: accuracy of the real next item, exposure of the targets."""

from collections.abc import Sequence

import numpy as np

CUTOFFS = (5, 10, 20, 50, 100, 1000)


def cutoffs(num_items: int, longest: int = 0) -> tuple[int, ...]:
    """Returns the K of HR@K and NDCG@K: those below the number of items outside the `longest` history.

    Any model has HR@K = 1 for a user for whom no more than K items compete.
    """
    return tuple(k for k in CUTOFFS if k < num_items - longest)


def hit_rate(ranks: np.ndarray, k: int) -> float:
    """Returns the share of `ranks` within the first k."""
    return float(np.mean(ranks <= k))


def ndcg(ranks: np.ndarray, k: int) -> float:
    """Returns the mean of 1 / log2(rank + 1), or 0 for ranks beyond k: NDCG@K of lists with one relevant item."""
    return float(np.mean(np.where(ranks <= k, 1 / np.log2(ranks + 1), 0)))


def auc(ranks: np.ndarray, competitors: np.ndarray) -> float:
    """Returns the mean share of other items ranked below an item; `competitors` counts the ranked items, the item included."""
    return float(np.mean(1 - (ranks - 1) / np.maximum(competitors - 1, 1)))


def accuracy(ranks: np.ndarray, histories: np.ndarray, num_items: int) -> dict[str, float]:
    """Returns hr@K, ndcg@K, mrr and auc of the real next items, with `ranks` [U] after `histories` [U, L]."""
    result = {}
    for k in cutoffs(num_items, histories.shape[1]):
        result |= {f"hr@{k}": hit_rate(ranks, k), f"ndcg@{k}": ndcg(ranks, k)}
    result["mrr"] = float(np.mean(1 / ranks))
    result["auc"] = auc(ranks, _competitors(histories, num_items))
    return result


def unseen(histories: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns [U, K] bool, the pairs that exposure is measured on: a user and a target that is not in the history [U, L]."""
    met = [(histories == target).any(1) for target in targets]  # one at a time, as both may be many
    return ~np.array(met, bool).reshape(len(targets), len(histories)).T


def exposure(
    ranks: np.ndarray, histories: np.ndarray, targets: np.ndarray, num_items: int, pairs: np.ndarray | None = None
) -> dict[str, float]:
    """Returns exposure_hr@K, exposure_ndcg@K and exposure_auc over `pairs` [U, K], by default all unseen ones.

    Args:
      ranks: [U, K] of the targets after `histories` [U, L].
    """
    pairs = unseen(histories, targets) if pairs is None else pairs
    flat = ranks[pairs]
    result = {}
    for k in cutoffs(num_items, histories.shape[1]):
        result |= {f"exposure_hr@{k}": hit_rate(flat, k), f"exposure_ndcg@{k}": ndcg(flat, k)}
    competitors = np.broadcast_to(_competitors(histories, num_items)[:, None], pairs.shape)[pairs]
    result["exposure_auc"] = auc(flat, competitors)
    return result


def lift(attacked: np.ndarray, clean: np.ndarray, pairs: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """Returns lift@K = (hits of the attacked model + 1) / (hits of the clean model + 1) of `pairs` [U, K], for K in `ks`.

    It grows with the number of pairs if the clean model has few hits: lifts of segments of different size do not compare.
    """
    return {f"lift@{k}": (np.sum(attacked[pairs] <= k) + 1) / (np.sum(clean[pairs] <= k) + 1) for k in ks}


def _competitors(histories: np.ndarray, num_items: int) -> np.ndarray:
    """[U] number of items that are ranked for each user: all but those in the history."""
    ordered = np.sort(histories, axis=1)
    distinct = (np.diff(ordered, axis=1, prepend=0) > 0).sum(1)
    return num_items - distinct
