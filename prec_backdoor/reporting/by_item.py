"""Exposure of each target by itself: exposure_by_item.csv, and the lines of the report's table."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from prec_backdoor.attacks import attack_parameters
from prec_backdoor.reporting.cells import Cell, Model, Run
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
    record them; the number of pairs, and the share of them in which the item is among the first K, with the attack's trigger in
    the history too, where that was measured.
    """
    ks = run.cutoffs.shown
    masks = {seed: segment_masks(run.folder, seed) for seed in {row["seed"] for row in run.results["rows"]}}
    cached: tuple[Path | None, dict[str, np.ndarray]] = (None, {})
    found = []
    for row in run.results["rows"]:
        path = work.ranks_path(run.folder, row)
        if path != cached[0]:  # rows of one model and usage follow each other
            cached = path, load_ranks(run.folder, row)
        chosen = masks[row["seed"]][row["users"]]
        kinds = {"exposure": cached[1]["targets"][chosen]}
        if run.cutoffs.triggered and cached[1].get("triggered") is not None:
            kinds["exposure_triggered"] = cached[1]["triggered"][chosen]
        pairs = np.isfinite(kinds["exposure"]).sum(0)
        shares = {f"{kind}_hr@{k}": (ranks <= k).sum(0) / np.maximum(pairs, 1) for kind, ranks in kinds.items() for k in ks}
        cell = {name: row[name] for name in _CELL} | {name: row.get(name) for name in attack_parameters()}
        for place, item in enumerate(_named(run, row, len(pairs))):
            of_item = {name: float(each[place]) for name, each in shares.items()}
            found.append(cell | item | {"pairs": int(pairs[place])} | of_item)
    return found


def write_by_item(run: Run, rows: list[dict]) -> None:
    """Writes FILE of `exposure_by_item`, without the parameters that no attack of the run has."""
    empty = {name for name in attack_parameters() if all(row[name] is None for row in rows)}
    shown = [{name: value for name, value in row.items() if name not in empty} for row in rows]
    with work.replacing(run.folder / FILE) as partial:
        pl.DataFrame(shown, infer_schema_length=None).write_csv(partial)


def item_tables(run: Run, rows: list[dict]) -> dict[str, tuple[list[str], list[ItemLine], int]]:
    """Returns model -> (columns, lines, number of lines left out), for the users whom the targets are meant for.

    Shown are the models of `Run.representatives`, or the clean one in a run without an attack, and of them the SHOWN items with
    the highest exposure; a column is a usage, the first one that of the clean model.
    """
    found = {}
    of_cell: dict[tuple, list[dict]] = {}
    for row in rows:
        of_cell.setdefault(_key(row), []).append(row)
    for model in run.representatives.values() or list(dict.fromkeys(cell.model for cell in run.cells)):
        columns = dict(_columns(run, model))
        lines = _lines(of_cell, columns)
        if columns and lines:
            who = f"{run.name(model)}, {SEGMENTS[run.intended(model)]}"
            found[who] = list(columns), lines[:SHOWN], max(len(lines) - SHOWN, 0)
    return found


def _columns(run: Run, model: Model) -> Iterator[tuple[str, tuple[Cell, str]]]:
    """Name -> (cell, metric) of each column."""
    clean, users, usage, last = run.clean_of(model), run.intended(model), run.plainest_usage, f"hr@{run.cutoffs.last}"
    if model != clean and (cell := run.cell(usage, clean, users)):
        yield f"clean, {USAGES.get(usage, usage)}", (cell, f"exposure_{last}")
    for usage in run.usages:
        if cell := run.cell(usage, model, users):
            if f"exposure_triggered_{last}" in cell.estimates and model != clean:
                yield f"{USAGES.get(usage, usage)}, with trigger", (cell, f"exposure_triggered_{last}")
            yield USAGES.get(usage, usage), (cell, f"exposure_{last}")


def _lines(of_cell: dict[tuple, list[dict]], columns: dict[str, tuple[Cell, str]]) -> list[ItemLine]:
    """The lines of one model's table, highest exposure in the first column that is not the clean model's first."""
    if not columns:
        return []
    of_column: dict[str, dict[tuple, list[dict]]] = {name: {} for name in columns}
    for name, (cell, _) in columns.items():
        for row in (row for each in cell.rows for row in of_cell[_key(each)]):
            of_column[name].setdefault((row["item"], row["title"]), []).append(row)
    first = next((name for name in columns if not name.startswith("clean,")), next(iter(columns)))
    lines = []
    for item, rows in of_column[first].items():
        shares = {name: _pooled(of_column[name][item], columns[name][1]) for name in columns if item in of_column[name]}
        counts = sorted({row["interactions"] for row in rows if row["interactions"] is not None})
        span = "–".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else ""
        lines.append(ItemLine(*item, span, len(rows), shares))
    return sorted(lines, key=lambda line: -line.shares[first])


def _key(row: dict) -> tuple:
    """Which row of results.json it is, or is of."""
    return tuple(row.get(name) for name in (*_CELL, *attack_parameters()))


def _pooled(rows: list[dict], metric: str) -> float:
    """The share over all pairs of the replicates."""
    return sum(row[metric] * row["pairs"] for row in rows) / max(sum(row["pairs"] for row in rows), 1)


def _named(run: Run, row: dict, number: int) -> list[dict]:
    """item, title and interactions of each of the row's targets."""
    for each in run.results.get("targets", []):
        if all(each[name] == row[name] for name in ("scope", "draw", "seed")) and len(each["items"]) == number:
            return each["items"]
    return [{"item": f"target {place}", "title": "", "interactions": None} for place in range(1, number + 1)]
