"""Ranks of recommenders that learn nothing, to compare models with."""

import numpy as np

_USERS = 1024  # compared at the same time


def popularity_ranks(counts: np.ndarray, histories: np.ndarray, item_ids: np.ndarray) -> np.ndarray:
    """Returns ranks [U, Q] float32 of `item_ids` [U, Q] among all items by popularity, as `ranking.ranks` does by score.

    Ties take the mean position. A user's history [U, L] (0 = none) does not compete, and an item of the history is ranked as if
    it were not in it.

    Args:
      counts: [V + 1] interactions of each item; row 0 is padding.
    """
    ordered = np.sort(counts[1:])
    found = np.empty(item_ids.shape, np.float32)
    for start in range(0, len(item_ids), _USERS):
        items, seen = item_ids[start : start + _USERS], np.sort(histories[start : start + _USERS], axis=1)
        own = counts[items]
        below, up_to = (np.searchsorted(ordered, own, side) for side in ("left", "right"))
        ahead = 2 * (len(ordered) - up_to) + (up_to - below - 1)  # twice the number, an equal item counts one half
        first = np.diff(seen, axis=1, prepend=0) > 0  # an item that was met twice is taken off once
        for column in range(seen.shape[1]):
            met, count = seen[:, column, None], counts[seen[:, column]][:, None]
            ahead -= np.where(first[:, column, None] & (met != items), (count > own).astype(int) + (count >= own), 0)
        found[start : start + _USERS] = 1 + ahead / 2
    return found
