"""Reads the ranks that a run has saved, and sums metrics over users."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prec_backdoor.errors import UserError
from prec_backdoor.reporting.names import ACCURACIES, ACCURACY_AT, Cutoffs
from prec_backdoor.storage import workdir as work

PAIRS = "pairs"  # number of a user's pairs: the targets that are not in the history
PAIRED = "paired"  # whether a user has any


def columns(cutoffs: Cutoffs) -> tuple[str, ...]:
    """Returns the names of what is summed over users: C metrics and counts."""
    return (*cutoffs.exposures, *ACCURACIES, PAIRS, PAIRED)


def load_ranks(folder: Path, row: dict) -> dict[str, np.ndarray]:
    """Returns the ranks "truth" [U] and "targets" [U, K] of a row's model and usage, of the test users of all segments.

    Raises:
      UserError: the file is missing.
    """
    path = work.ranks_path(folder, row)
    try:
        return work.load_ranks(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing, and intervals need it; {work.AGAIN}") from None


def segment_masks(folder: Path, seed: int) -> dict[str, np.ndarray]:
    """Returns segment -> [U] bool over the test users of a seed."""
    in_group = work.load_test_users(folder, seed)["in_group"].to_numpy()
    return {"all": np.ones(len(in_group), bool), "target": in_group, "rest": ~in_group}


def segment_columns(folder: Path, rows: list[dict], seed: int, cutoffs: Cutoffs) -> Iterator[tuple[str, list[dict], np.ndarray]]:
    """Yields (segment, its rows of one seed, values): values [users, rows x C] are the `columns` of each user, row after row."""
    per_user = {}
    for row in rows:
        path = work.ranks_path(folder, row)
        if path not in per_user:
            found = load_ranks(folder, row)
            per_user[path] = user_columns(found["truth"], found["targets"], cutoffs, found.get("triggered"))
    for users, mask in segment_masks(folder, seed).items():
        if ranked := [len(each) for each in per_user.values() if len(each) != len(mask)]:
            file = f"{folder}/seed-{seed}/test_users.csv"
            raise UserError(f"{file}: has {len(mask)} users, and {ranked[0]} were ranked; {work.AGAIN}")
        ours = [row for row in rows if row["users"] == users]
        if ours:
            yield users, ours, np.concatenate([per_user[work.ranks_path(folder, row)][mask] for row in ours], 1)


def user_columns(truth: np.ndarray, targets: np.ndarray, cutoffs: Cutoffs, triggered: np.ndarray | None = None) -> np.ndarray:
    """Returns the `columns` [U, C] of each user. A target in the user's history has rank NaN and forms no pair.

    What was not measured with a trigger in the history is NaN.
    """
    number = len(truth)

    def summed(targets, gain):
        users, places = np.nonzero(targets <= cutoffs.last)  # few of many
        ranks = targets[users, places]
        return [np.bincount(users[ranks <= k], gain(ranks[ranks <= k]), number) for k in cutoffs.shown]

    exposures = [*summed(targets, np.ones_like), *summed(targets, _discount)]
    if cutoffs.triggered:
        with_trigger = [np.full(number, np.nan)] * len(cutoffs.shown)
        exposures += with_trigger if triggered is None else summed(triggered, np.ones_like)
    hit, pairs = truth <= ACCURACY_AT, np.isfinite(targets).sum(1)
    return np.stack([*exposures, hit, np.where(hit, _discount(truth), 0), pairs, pairs > 0], 1).astype(np.float32)


def _discount(ranks: np.ndarray) -> np.ndarray:
    return 1 / np.log2(ranks + 1)
