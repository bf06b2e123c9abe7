"""Samples of a cell: its sums over users as measured, and over users, draws of targets and seeds drawn with replacement."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prec_backdoor.evaluation.statistics import percentile_interval, resampled_replicates, resampled_sums
from prec_backdoor.reporting.rank_files import COLUMNS, segment_columns


class Estimate(NamedTuple):
    """A mean over replicates (seeds and draws of targets) and its 95 % interval."""

    mean: float
    low: float
    high: float


class Sample(NamedTuple):
    """What estimators are functions of: N draws of R replicates of a cell, with those of the cells it is compared with.

    Attributes:
      sums: [N, R, C] sums of the COLUMNS over users.
      counts: [N, R] how often each replicate counts.
      users: [R] number of users.
      clean: [N, R, C] of the clean model in the same usage; None if it was not measured, as for all below.
      rest: of the same model and the users outside the group.
      before, before_clean: of the same model and of the clean one, zero-shot.
    """

    sums: np.ndarray
    counts: np.ndarray
    users: np.ndarray
    clean: np.ndarray | None = None
    rest: np.ndarray | None = None
    before: np.ndarray | None = None
    before_clean: np.ndarray | None = None


class Samples(NamedTuple):
    """The one draw that was measured, and the bootstrap draws."""

    measured: Sample
    drawn: Sample

    def estimate(self, function: Callable[[Sample], np.ndarray]) -> Estimate:
        """Returns the value of a function Sample -> [N] as measured, with its interval over the draws."""
        (mean,) = function(self.measured)
        return Estimate(float(mean), *percentile_interval(function(self.drawn)))


class UserSums(NamedTuple):
    """Sums over the users of one replicate of a cell: as measured [C], and over users drawn with replacement [DRAWS, C]."""

    measured: np.ndarray
    drawn: np.ndarray
    users: int


def replicate_of(row: dict) -> tuple[int, int]:
    """Returns the seed and the draw of targets of a row."""
    return row["seed"], row["draw"]


def user_sums(folder: Path, rows: list[dict], key_of: Callable[[dict], tuple]) -> dict[tuple, UserSums]:
    """Returns (*key_of(row), *replicate_of(row)) -> sums of each row; all cells of one segment and seed draw the same users."""
    found = {}
    for seed in sorted({row["seed"] for row in rows}):
        of_seed = [row for row in rows if row["seed"] == seed]
        for users, ours, values in segment_columns(folder, of_seed, seed):
            segment = ("all", "target", "rest").index(users)
            measured = np.split(values.sum(0, dtype=np.float64), len(ours))
            drawn = np.split(resampled_sums(values, (seed, segment)), len(ours), 1)
            for row, *of_row in zip(ours, measured, drawn, strict=True):
                found[*key_of(row), *replicate_of(row)] = UserSums(*of_row, len(values))
    return found


def make_samples(sums: dict[tuple, UserSums], key: tuple, replicates: Sequence[tuple], **others: tuple | None) -> Samples:
    """Returns the samples of the cell `key` over its replicates.

    Args:
      others: field of `Sample` -> key of the cell that belongs there; the field is None where one of the replicates is missing.
    """
    own = [sums[*key, *replicate] for replicate in replicates]
    users = np.array([each.users for each in own])
    measured = {"sums": _measured(own), "counts": np.ones((1, len(own))), "users": users}
    drawn = {"sums": _drawn(own), "counts": resampled_replicates([seed for seed, _ in replicates]), "users": users}
    for field, other in others.items():
        found = [sums.get((*other, *replicate)) for replicate in replicates] if other else [None]
        if None not in found:
            measured[field], drawn[field] = _measured(found), _drawn(found)
    return Samples(Sample(**measured), Sample(**drawn))


def column(sums: np.ndarray, name: str) -> np.ndarray:
    """Returns one of the COLUMNS of `sums` [..., C]."""
    return sums[..., COLUMNS.index(name)]


def _measured(found: list[UserSums]) -> np.ndarray:
    return np.stack([each.measured for each in found])[None]


def _drawn(found: list[UserSums]) -> np.ndarray:
    return np.stack([each.drawn for each in found], 1)
