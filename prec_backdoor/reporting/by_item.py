"""Exposure of each target by itself: exposure_by_item.csv, and the lines of the report's table."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from prec_backdoor.attacks import attack_parameters
from prec_backdoor.reporting.cells import Model, Run
from prec_backdoor.reporting.names import SEGMENTS, USAGES
from prec_backdoor.reporting.rank_files import load_ranks, segment_masks
from prec_backdoor.storage import workdir as work

FILE = "exposure_by_item.csv"
SHOWN = 10  # items of an attack in the report
_CELL = ("attack", "scope", "rate", "usage", "users", "seed", "draw")


class ItemLine(NamedTuple):
    """A target in the report's table: how many seeds and draws it is a target in, and column -> share of its pairs."""

    item: str
    title: str
    interactions: str
    runs: int
    shares: dict[str, float]


def exposure_by_item(run: Run) -> list[dict]:
    """Returns a row for each row of results.json and target, in the order of these.

    A row has the cell's entries; the item's raw id, title and number of pre-training interactions, blank in runs that did not
    record them; the number of pairs, and the share of them in which the item is among the first K.
    """
    masks = {seed: segment_masks(run.folder, seed) for seed in {row["seed"] for row in run.results["rows"]}}
    cached: tuple[Path | None, np.ndarray] = (None, np.zeros((0, 0)))
    found = []
    for row in run.results["rows"]:
        path = work.ranks_path(run.folder, row)
        if path != cached[0]:  # rows of one model and usage follow each other
            cached = path, load_ranks(run.folder, row)["targets"]
        ranks = cached[1][masks[row["seed"]][row["users"]]]
        pairs = np.isfinite(ranks).sum(0)
        hits = {k: (ranks <= k).sum(0) for k in run.cutoffs.shown}
        cell = {name: row[name] for name in _CELL} | {name: row.get(name) for name in attack_parameters()}
        for place, item in enumerate(_named(run, row, ranks.shape[1])):
            shares = {f"exposure_hr@{k}": float(hits[k][place] / max(pairs[place], 1)) for k in hits}
            found.append(cell | item | {"pairs": int(pairs[place])} | shares)
    return found


def write_by_item(run: Run, rows: list[dict]) -> None:
    """Writes FILE of `exposure_by_item`, without the parameters that no attack of the run has."""
    empty = [name for name in attack_parameters() if all(row[name] is None for row in rows)]
    with work.replacing(run.folder / FILE) as partial:
        pl.DataFrame(rows, infer_schema_length=None).drop(empty).write_csv(partial)


def item_tables(run: Run, rows: list[dict]) -> dict[str, tuple[list[str], list[ItemLine], int]]:
    """Returns model -> (columns, lines, number of lines left out), for the users whom the targets are meant for.

    Shown are the models of `Run.representatives`, or the clean one in a run without an attack, and of them the SHOWN items with
    the highest exposure; a column is a usage, the first one that of the clean model.
    """
    found = {}
    for model in run.representatives.values() or list(dict.fromkeys(cell.model for cell in run.cells)):
        columns = dict(_columns(run, model))
        lines = _lines(rows, columns, f"exposure_hr@{run.cutoffs.last}", run.intended(model))
        if columns and lines:
            who = f"{run.name(model)}, {SEGMENTS[run.intended(model)]}"
            found[who] = list(columns), lines[:SHOWN], max(len(lines) - SHOWN, 0)
    return found


def _columns(run: Run, model: Model) -> Iterator[tuple[str, tuple[str, Model]]]:
    """Name -> (usage, model) of each column."""
    clean, users, usage = run.clean_of(model), run.intended(model), run.plainest_usage
    if model != clean and run.cell(usage, clean, users):
        yield f"clean, {USAGES.get(usage, usage)}", (usage, clean)
    for usage in run.usages:
        if run.cell(usage, model, users):
            yield USAGES.get(usage, usage), (usage, model)


def _lines(rows: list[dict], columns: dict[str, tuple[str, Model]], metric: str, users: str) -> list[ItemLine]:
    """The lines of one model's table, highest exposure in the first usage that is not the clean model's first."""
    of_cell: dict[tuple, dict[tuple, list[dict]]] = {}
    for row in rows:
        if row["users"] == users:
            key = row["usage"], row["attack"], row["scope"], row["rate"], _parameters(row)
            of_cell.setdefault(key, {}).setdefault((row["item"], row["title"]), []).append(row)
    cells = {name: of_cell.get((usage, *model), {}) for name, (usage, model) in columns.items()}
    shown = [name for name in cells if not name.startswith("clean,")] or list(cells)
    lines = []
    for item, first in cells[shown[0]].items() if shown else ():
        shares = {name: _pooled(cell[item], metric) for name, cell in cells.items() if item in cell}
        counts = sorted({row["interactions"] for row in first if row["interactions"] is not None})
        span = "–".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else ""
        lines.append(ItemLine(*item, span, len(first), shares))
    return sorted(lines, key=lambda line: -line.shares[shown[0]]) if shown else []


def _parameters(row: dict) -> tuple[tuple[str, float], ...]:
    return tuple((name, row[name]) for name in attack_parameters() if row[name] is not None)


def _pooled(rows: list[dict], metric: str) -> float:
    """The share over all pairs of the replicates."""
    return sum(row[metric] * row["pairs"] for row in rows) / max(sum(row["pairs"] for row in rows), 1)


def _named(run: Run, row: dict, number: int) -> list[dict]:
    """item, title and interactions of each of the row's targets."""
    for each in run.results.get("targets", []):
        if all(each[name] == row[name] for name in ("scope", "draw", "seed")) and len(each["items"]) == number:
            return each["items"]
    return [{"item": f"target {place}", "title": "", "interactions": None} for place in range(1, number + 1)]
