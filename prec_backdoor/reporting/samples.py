"""Samples of a cell: its sums over users as measured, and over users, draws of targets and seeds drawn with replacement."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prec_backdoor.evaluation.statistics import Estimate, percentile_interval, resampled_replicates, resampled_sums
from prec_backdoor.reporting.names import EXPOSURE, Cutoffs
from prec_backdoor.reporting.rank_files import columns, segment_columns

Sums = dict[str, np.ndarray]  # name of `rank_files.columns`, or EXPOSURE -> [N, R] sums over users


class Sample(NamedTuple):
    """N draws of R replicates of a cell, with those of the cells that it is compared with: what estimators are functions of.

    Attributes:
      own: sums of the cell itself.
      counts: [N, R] how often each replicate counts.
      users: [R] number of users.
      clean: the clean model in the same usage; None if it was not measured, as for all below.
      rest: the same model for the users outside the group.
      before, before_clean: the same model and the clean one, zero-shot.
      popularity: ranking by popularity.
      moved: how far the cell is from the clean model, summed over users without sign; of the measured sample only.
    """

    own: Sums
    counts: np.ndarray
    users: np.ndarray
    clean: Sums | None = None
    rest: Sums | None = None
    before: Sums | None = None
    before_clean: Sums | None = None
    popularity: Sums | None = None
    moved: Sums | None = None


class Samples(NamedTuple):
    """The one draw that was measured, and the bootstrap draws; `seeds` [R] are those of the replicates."""

    measured: Sample
    drawn: Sample
    seeds: np.ndarray

    def estimate(self, function: Callable[[Sample], np.ndarray]) -> Estimate:
        """Returns the value of a function Sample -> [N] as measured, with its interval over the draws."""
        (mean,) = function(self.measured)
        return Estimate(float(mean), *percentile_interval(function(self.drawn)))

    def distinct(self, users: np.ndarray) -> float:
        """Returns the number of different users, given that of each replicate: draws of targets share their seed's users."""
        return sum(users[self.seeds == seed].max() for seed in np.unique(self.seeds))


class UserSums(NamedTuple):
    """Sums over the users of one replicate of a cell.

    Attributes:
      measured: [C] as measured.
      drawn: [DRAWS, C] over users drawn with replacement.
      moved: [C] of absolute differences to the clean model; None if it was not measured.
      users: number of users.
    """

    measured: np.ndarray
    drawn: np.ndarray
    moved: np.ndarray | None
    users: int


def replicate_of(row: dict) -> tuple[int, int]:
    """Returns the seed and the draw of targets of a row."""
    return row["seed"], row["draw"]


def user_sums(
    folder: Path, rows: list[dict], cutoffs: Cutoffs, key_of: Callable[[dict], tuple], clean_of: Callable[[tuple], tuple]
) -> dict[tuple, UserSums]:
    """Returns (*key, *replicate_of(row)) -> sums of each row; all cells of one segment and seed draw the same users.

    Args:
      key_of, clean_of: key of a row's cell; key of the clean model's cell that a cell is compared with.
    """
    found = {}
    for seed in sorted({row["seed"] for row in rows}):
        of_seed = [row for row in rows if row["seed"] == seed]
        for users, ours, values in segment_columns(folder, of_seed, seed, cutoffs):
            segment = ("all", "target", "rest").index(users)
            drawn = np.split(resampled_sums(values, (seed, segment)), len(ours), 1)
            each = dict(zip(((*key_of(row), *replicate_of(row)) for row in ours), np.split(values, len(ours), 1), strict=True))
            for (key, own), of_row in zip(each.items(), drawn, strict=True):
                clean = each.get((*clean_of(key[:-2]), *key[-2:]))
                moved = None if clean is None else np.abs(own - clean).sum(0, dtype=np.float64)
                found[key] = UserSums(own.sum(0, dtype=np.float64), of_row, moved, len(values))
    return found


def make_samples(
    sums: dict[tuple, UserSums], cutoffs: Cutoffs, key: tuple, replicates: Sequence[tuple], **others: tuple | None
) -> Samples:
    """Returns the samples of the cell `key` over its replicates.

    Args:
      others: field of `Sample` -> key of the cell that belongs there; the field is None where one of the replicates is missing.
    """
    own = [sums[*key, *replicate] for replicate in replicates]
    seeds = np.array([seed for seed, _ in replicates])
    users = np.array([each.users for each in own])
    measured = {"own": _measured(own, cutoffs), "counts": np.ones((1, len(own))), "users": users}
    drawn = {"own": _drawn(own, cutoffs), "counts": resampled_replicates(seeds), "users": users}
    if all(each.moved is not None for each in own):
        measured["moved"] = _by_name(np.stack([each.moved for each in own])[None], cutoffs)
    for field, other in others.items():
        found = [sums.get((*other, *replicate)) for replicate in replicates] if other else [None]
        if None not in found:
            measured[field], drawn[field] = _measured(found, cutoffs), _drawn(found, cutoffs)
    return Samples(Sample(**measured), Sample(**drawn), seeds)


def _measured(found: list[UserSums], cutoffs: Cutoffs) -> Sums:
    return _by_name(np.stack([each.measured for each in found])[None], cutoffs)


def _drawn(found: list[UserSums], cutoffs: Cutoffs) -> Sums:
    return _by_name(np.stack([each.drawn for each in found], 1), cutoffs)


def _by_name(array: np.ndarray, cutoffs: Cutoffs) -> Sums:
    sums = dict(zip(columns(cutoffs), np.moveaxis(array, -1, 0), strict=True))
    return {**sums, EXPOSURE: sums[cutoffs.exposure]}
