"""A panel that an attacker cannot fit: histories that nobody has, drawn by a number that only the auditor knows.

An attacker who hides targets from an audit of real histories has trained on such ones. STRIP (Gao et al., ACSAC 2019) mixes
inputs for the same reason: what was planted stays when the input changes.
"""

import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData

PANEL = "panel of altered histories"  # its name among the views


def draw_panel(auditor_data: AuditorData, seed: int) -> AuditorData:
    """The data of a random half of the users; of their histories a third each are shortened, shuffled, and mixed with another's.

    A mixed history is the older part of one, then the recent part of another; what is in both counts once.
    """
    rng = np.random.default_rng([seed, 0])
    users = np.sort(rng.permutation(len(auditor_data.history))[: -(-len(auditor_data.history) // 2)])
    chosen = auditor_data.select(users)
    others = chosen.history[rng.permutation(len(users))]
    ways = rng.integers(0, 3, len(users))
    history = np.stack([_altered(rng, *each) for each in zip(ways, chosen.history, others, strict=True)])
    return chosen._replace(history=history)


def _altered(rng: np.random.Generator, way: int, row: np.ndarray, other: np.ndarray) -> np.ndarray:
    own, theirs = row[row > 0], other[other > 0]
    if way == 0:
        items = own[-rng.integers(1, len(own) + 1) :]
    elif way == 1:
        items = rng.permutation(own)
    else:
        both = np.concatenate([own[: rng.integers(0, len(own) + 1)], theirs[-rng.integers(1, len(theirs) + 1) :]])
        items = both[np.sort(np.unique(both, return_index=True)[1])][-len(row) :]
    return np.pad(items, (len(row) - len(items), 0))
