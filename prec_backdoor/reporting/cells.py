"""A run's results as cells: a model in one usage, seen by one segment of users, with an interval for every figure."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prec_backdoor.errors import UserError
from prec_backdoor.evaluation.statistics import percentile_interval, replicate_mean, resampled_replicates, resampled_sums
from prec_backdoor.storage import workdir as work

USAGES = {"zero_shot": "zero-shot", "prompt_tune": "prompt-tuned", "fine_tune": "fine-tuned"}
SEGMENTS = {"all": "all users", "target": "target group", "rest": "everybody else"}
CUTOFFS = (5, 10, 50)  # of exposure
EXPOSURE_AT, ACCURACY_AT = 50, 10
EXPOSURE, ACCURACY = f"exposure_hr@{EXPOSURE_AT}", f"hr@{ACCURACY_AT}"
EXPOSURES = tuple(f"exposure_{metric}@{k}" for metric in ("hr", "ndcg") for k in CUTOFFS)
ACCURACIES = (ACCURACY, f"ndcg@{ACCURACY_AT}")
LIFT, SELECTIVITY = f"lift@{EXPOSURE_AT}", f"selectivity@{EXPOSURE_AT}"
LOST, LEFT = f"{ACCURACY} lost", "left"
_COLUMNS = (*EXPOSURES, *ACCURACIES, "pairs")  # what is summed over a segment's users


class Estimate(NamedTuple):
    """A mean over replicates (seeds and draws of targets) and its 95 % interval."""

    mean: float
    low: float
    high: float


class Model(NamedTuple):
    """What a recommender was attacked with."""

    attack: str
    scope: str
    rate: float
    demote_rate: float | None

    @property
    def kind(self) -> str:
        return f"{self.attack} {self.scope}"

    @property
    def name(self) -> str:
        if self.attack == "clean":
            return self.kind
        return f"{self.kind} {self.rate:g}" if self.demote_rate is None else f"{self.attack} {self.rates}"

    @property
    def rates(self) -> str:
        return f"{self.rate:g}" + ("" if self.demote_rate is None else f"/{self.demote_rate:g}")


class Cell(NamedTuple):
    """One line of a table.

    Attributes:
      rows: those of results.json, one a replicate.
      estimates: of EXPOSURES and ACCURACIES; LIFT and LOST where the clean model was measured; SELECTIVITY where there are users
        outside the group; LEFT where the zero-shot use was measured and is exposed more than the clean model.
      hits: targets within the first EXPOSURE_AT, over all replicates; `clean_hits`, `rest_hits`: of the clean model on the same
        pairs, and of the model outside the group; None where not measured.
    """

    usage: str
    model: Model
    users: str
    rows: list[dict]
    estimates: dict[str, Estimate]
    pairs: int
    hits: int
    clean_hits: int | None
    rest_hits: int | None


class Run(NamedTuple):
    """A finished run: its folder, the content of results.json, and the cells, usage by usage, clean before attacked."""

    folder: Path
    results: dict
    cells: list[Cell]

    @property
    def usages(self) -> list[str]:
        return list(dict.fromkeys(cell.usage for cell in self.cells))

    @property
    def plainest_usage(self) -> str:
        """Zero-shot, where it was measured: what figures show that are of one usage."""
        return "zero_shot" if "zero_shot" in self.usages else self.usages[0]

    @property
    def attacked(self) -> list[Model]:
        return list(dict.fromkeys(cell.model for cell in self.cells if cell.model.attack != "clean"))

    @property
    def representatives(self) -> dict[str, Model]:
        """One attacked model of each kind: of the highest rate (and demote rate)."""
        return {model.kind: model for model in self.attacked}

    def cell(self, usage: str, model: Model, users: str) -> Cell | None:
        return next((cell for cell in self.cells if cell[:3] == (usage, model, users)), None)

    def meant(self, model: Model) -> str:
        """The users whom the targets are meant for: the group where the scope is one."""
        has_group = any(cell.users == "target" for cell in self.cells if cell.model == model)
        return "target" if model.scope == "group" and has_group else "all"

    def clean_of(self, model: Model) -> Model:
        """The clean model that was measured on the same targets, if any was."""
        return Model("clean", model.scope, 0.0, None)

    def name(self, model: Model) -> str:
        """Of the model in this run; a clean model's tells whose targets it was measured on only where these differ."""
        alone = len({cell.model.scope for cell in self.cells}) == 1
        return "clean" if model.attack == "clean" and alone else model.name


def load_run(folder: Path, results: dict) -> Run:
    """Reads the ranks of a run and draws its intervals.

    Users are drawn again within each segment and seed, the same for all models, so that differences and ratios of models are
    paired; target draws are drawn again within seeds, seeds among themselves.

    Raises:
      UserError: ranks that the results are of are not there.
    """
    groups: dict[tuple, list[dict]] = {}
    for row in results["rows"]:
        groups.setdefault((row["usage"], _model_of(row), row["users"]), []).append(row)
    usages, scopes, attacks = (list(dict.fromkeys(row[key] for row in results["rows"])) for key in ("usage", "scope", "attack"))

    def order(key):
        usage, model, users = key
        kind = (scopes.index(model.scope), model.attack != "clean", attacks.index(model.attack))
        return usages.index(usage), *kind, model.rate, model.demote_rate or 0.0, list(SEGMENTS).index(users)

    groups = {key: groups[key] for key in sorted(groups, key=order)}
    seeds = sorted({row["seed"] for row in results["rows"]})
    sums = {key: of_users for seed in seeds for key, of_users in _sums(folder, results, seed)}
    return Run(folder, results, [_cell(key, groups, sums) for key in groups])


def load_ranks(folder: Path, row: dict) -> dict[str, np.ndarray]:
    """The ranks [U] and [U, K] that a row is of, and all other segments' of its cell.

    Raises:
      UserError: they are not there.
    """
    path = work.ranks_path(folder, row)
    try:
        return work.load_ranks(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing, so that no interval can be drawn; run it again in another --workdir") from None


def segment_masks(folder: Path, seed: int) -> dict[str, np.ndarray]:
    """Segment -> [U] bool over the test users of a seed."""
    in_group = work.load_test_users(folder, seed)["in_group"].to_numpy()
    return {"all": np.ones(len(in_group), bool), "target": in_group, "rest": ~in_group}


class _Sums(NamedTuple):
    """Of one replicate of a cell: of each of _COLUMNS the sum over users, [C], and of users drawn again, [DRAWS, C]."""

    total: np.ndarray
    draws: np.ndarray
    users: int


def _model_of(row: dict) -> Model:
    return Model(row["attack"], row["scope"], row["rate"], row["demote_rate"])


def _replicate(row: dict) -> tuple[int, int]:
    return row["seed"], row["draw"]


def _sums(folder: Path, results: dict, seed: int) -> Iterator[tuple[tuple, _Sums]]:
    """((usage, model, users, replicate), sums) of all rows of a seed, their users drawn together."""
    rows = [row for row in results["rows"] if row["seed"] == seed]
    masks, per_user = segment_masks(folder, seed), {}
    for row in rows:
        path = work.ranks_path(folder, row)
        if path not in per_user:
            per_user[path] = _per_user(**load_ranks(folder, row))
    for number, (users, mask) in enumerate(masks.items()):
        ours = [row for row in rows if row["users"] == users]
        if not ours:
            continue
        values = np.concatenate([per_user[work.ranks_path(folder, row)][mask] for row in ours], 1)
        drawn = np.split(resampled_sums(values, (seed, number)), len(ours), 1)
        totals = np.split(values.sum(0, dtype=np.float64), len(ours))
        for row, total, draws in zip(ours, totals, drawn, strict=True):
            yield (row["usage"], _model_of(row), users, _replicate(row)), _Sums(total, draws, int(mask.sum()))


def _per_user(truth: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[U, C] of each user the _COLUMNS; a target in the history has rank NaN and is no pair."""
    users, places = np.nonzero(targets <= max(CUTOFFS))  # few of many
    ranks, number = targets[users, places], len(truth)

    def summed(k, gain):
        return np.bincount(users[ranks <= k], gain(ranks[ranks <= k]), number)

    columns = [summed(k, gain) for gain in (np.ones_like, _discount) for k in CUTOFFS]
    right = truth <= ACCURACY_AT
    columns += [right, np.where(right, _discount(truth), 0), np.isfinite(targets).sum(1)]
    return np.stack(columns, 1).astype(np.float32)


def _discount(ranks: np.ndarray) -> np.ndarray:
    return 1 / np.log2(ranks + 1)


class _Replicates(NamedTuple):
    """All replicates of a cell: `total` [1, R, C] and `draws` [DRAWS, R, C] of sums, how often each counts, users [R]."""

    total: np.ndarray
    draws: np.ndarray
    once: np.ndarray
    counts: np.ndarray
    users: np.ndarray

    def estimate(self, function, *others: "_Replicates") -> Estimate:
        """Of a function (sums, counts, users, *sums of `others`) -> [DRAWS], as measured and over the draws."""
        (mean,) = function(self.total, self.once, self.users, *(other.total for other in others))
        draws = function(self.draws, self.counts, self.users, *(other.draws for other in others))
        return Estimate(float(mean), *percentile_interval(draws))


def _gather(sums: dict, key: tuple, replicates: Sequence[tuple]) -> _Replicates | None:
    found = [sums.get((*key, replicate)) for replicate in replicates]
    if any(each is None for each in found):
        return None
    return _Replicates(
        total=np.stack([each.total for each in found])[None],
        draws=np.stack([each.draws for each in found], 1),
        once=np.ones((1, len(found))),
        counts=resampled_replicates([seed for seed, _ in replicates]),
        users=np.array([each.users for each in found]),
    )


def _cell(key: tuple, groups: dict, sums: dict) -> Cell:
    usage, model, users = key
    rows = groups[key]
    replicates = [_replicate(row) for row in rows]
    clean = Model("clean", model.scope, 0.0, None)
    own = _gather(sums, key, replicates)
    reference = _gather(sums, (usage, clean, users), replicates)
    rest = _gather(sums, (usage, model, "rest"), replicates) if users == "target" else None
    before = [_gather(sums, ("zero_shot", each, users), replicates) for each in (model, clean)]
    estimates = {name: own.estimate(lambda s, c, u, name=name: _rate(name, s, c, u)) for name in (*EXPOSURES, *ACCURACIES)}
    if reference and model != clean:
        estimates[LIFT] = own.estimate(_lift, reference)
        if reference.total[..., _COLUMNS.index(ACCURACY)].any():
            estimates[LOST] = own.estimate(_lost, reference)
        if usage != "zero_shot" and all(before) and before[0].estimate(_lift, before[1]).low > 1:
            estimates[LEFT] = own.estimate(_left, reference, *before)
    if rest:
        estimates[SELECTIVITY] = own.estimate(_selectivity, rest)
    hits = [each and int(each.total[..., _COLUMNS.index(EXPOSURE)].sum()) for each in (own, reference, rest)]
    return Cell(usage, model, users, rows, estimates, int(own.total[..., -1].sum()), *hits)


def _rate(name: str, sums: np.ndarray, counts: np.ndarray, users: np.ndarray) -> np.ndarray:
    """[DRAWS] mean over replicates of a metric of users, or of pairs of users and targets."""
    of = users if name in ACCURACIES else np.maximum(sums[..., -1], 1)
    return replicate_mean(sums[..., _COLUMNS.index(name)] / of, counts)


def _exposure(sums, counts):
    return _rate(EXPOSURE, sums, counts, None)


def _lift(sums, counts, users, clean):
    del users
    shown, shown_clean = ((each[..., _COLUMNS.index(EXPOSURE)] * counts).sum(1) + 1 for each in (sums, clean))
    return shown / shown_clean


def _lost(sums, counts, users, clean):
    now, before = (_rate(ACCURACY, each, counts, users) for each in (sums, clean))
    return 1 - now / np.maximum(before, 1e-9)


def _selectivity(sums, counts, users, rest):
    """An exposure of 0 outside the group counts as that of one hit, which makes the ratio a lower bound."""
    del users
    one_hit = 1 / np.maximum((rest[..., -1] * counts).sum(1), 1)
    return _exposure(sums, counts) / np.maximum(_exposure(rest, counts), one_hit)


def _left(sums, counts, users, clean, before, clean_before):
    """Share of the exposure above the clean model's that outlasts the usage; infinite where there was none."""
    del users
    now, then = (_exposure(a, counts) - _exposure(b, counts) for a, b in ((sums, clean), (before, clean_before)))
    return np.where(then > 0, now / np.where(then > 0, then, 1), np.inf)
