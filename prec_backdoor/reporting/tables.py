"""The tables of a report as text, without markup."""

from typing import NamedTuple

from prec_backdoor.reporting.cells import Cell, Run
from prec_backdoor.reporting.configurations import configurations
from prec_backdoor.reporting.formats import at_least, counted, number
from prec_backdoor.reporting.names import ACCURACIES, EXPOSURES, LIFT, SEGMENTS, SELECTIVITY, USAGES
from prec_backdoor.reporting.samples import Estimate

MISSING = "–"


class Value(NamedTuple):
    """A mean and its 95 % interval."""

    mean: str
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.mean} ({self.interval})" if self.interval else self.mean


class Line(NamedTuple):
    """One model in a main table.

    Attributes:
      runs: number of replicates.
      starts: a clean model, the first one on its targets.
    """

    name: str
    users: str
    runs: int
    values: list[Value]
    starts: bool


def main_tables(run: Run) -> dict[str, list[Line]]:
    """Returns usage -> one line per model, for the users whom its targets are meant for; values in the order of `main_header`."""
    tables: dict[str, list[Line]] = {}
    for cell in run.cells:
        if cell.users != run.intended(cell.model):
            continue
        lines = tables.setdefault(USAGES.get(cell.usage, cell.usage), [])
        everybody = run.cell(cell.usage, cell.model, "all") or cell
        values = [
            *(_plain(cell.estimates[name]) for name in EXPOSURES),
            *(_plain(everybody.estimates[name]) for name in ACCURACIES),
            _ratio(cell.estimates.get(LIFT)),
            selectivity(cell),
        ]
        lines.append(Line(run.name(cell.model), SEGMENTS[cell.users], len(cell.rows), values, cell.model.attack == "clean"))
    return tables


def main_header() -> dict[str, list[str]]:
    """Returns group of columns -> names of its metrics."""
    metrics = {"exposure": EXPOSURES, "accuracy": ACCURACIES}
    return {of: [name.removeprefix("exposure_").upper() for name in names] for of, names in metrics.items()} | {
        "against": [LIFT, SELECTIVITY]
    }


def selectivity(cell: Cell) -> Value:
    """Returns a cell's selectivity: a lower bound without a hit outside the group, and nothing without any hit."""
    found = cell.estimates.get(SELECTIVITY)
    if found is None or not (cell.hits or cell.rest_hits):
        return Value(MISSING)
    return _ratio(found) if cell.rest_hits else Value(f">{at_least(found.mean)}")


def facts(run: Run) -> dict[str, str]:
    """Returns what was run, by name."""
    results, rows = run.results, run.results["rows"]
    dataset, config = results["dataset"], results["config"]
    found = {
        "Dataset": f"{dataset['name']}, fingerprint {dataset['fingerprint']}",
        "Size": f"{dataset['users']:,} users, {dataset['items']:,} items, {dataset['interactions']:,} interactions "
        f"after {config['k_core']}-core filtering",
        "Attacks": "; ".join(_attacks(run)) or "none: the clean model alone",
        "Target group": config["group"] or "none",
        "Test users": _test_users(run),
        "Usages": ", ".join(USAGES.get(usage, usage) for usage in run.usages),
        "Seeds": _list({row["seed"] for row in rows}),
        "Draws of targets": _list({row["draw"] for row in rows}),
        "Model": f"{config['backbone']}, width {config['embed_dim']}, layers {config['num_layers']}, "
        f"heads {config['num_heads']}, histories of {config['max_length']}, loss {config['loss']}",
    }
    if results["timings"]:
        found["Training"] = f"{sum(results['timings'].values()):,.0f} s in {counted(len(results['timings']), 'stage')}"
    return found


def settings(run: Run) -> dict[str, str]:
    """Returns flag -> value; several values where the configurations differ."""
    each = configurations(run.results["config"])
    return {name: "; ".join(dict.fromkeys(_flag(config[name]) for config in each)) for name in each[0]}


def _attacks(run: Run):
    targets = {_kind(each): each["targets"] for each in configurations(run.results["config"])}
    for kind, model in run.representatives.items():
        ours = [other for other in run.attacked if other.kind == kind]
        items = max(row["n_targets"] for row in run.results["rows"] if _kind(row) == kind)
        which = f"targets {targets[kind]} ({items} items)"
        yield f"{kind}, {which}, {model.rate_names} {', '.join(each.rates for each in ours)}"


def _kind(row: dict) -> str:
    return f"{row['attack']} {row['scope']}"


def _test_users(run: Run) -> str:
    """The number of test users in each segment."""
    counts = {}
    for row in run.results["rows"]:
        counts.setdefault(row["users"], {})[row["seed"]] = row["n_users"]
    users = f"{sum(counts['all'].values()):,}" + (" over all seeds" if len(counts["all"]) > 1 else "")
    for name, meaning in (("target", "in the target group"), ("rest", "outside it")):
        users += f", {sum(counts[name].values()):,} {meaning}" if name in counts else ""
    return users


def _list(values) -> str:
    return ", ".join(map(str, sorted(values)))


def _flag(value) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(estimate: Estimate) -> Value:
    return Value(f"{estimate.mean:.3f}", f"{estimate.low:.3f}–{estimate.high:.3f}")


def _ratio(estimate: Estimate | None) -> Value:
    if estimate is None:
        return Value(MISSING)
    return Value(number(estimate.mean), f"{number(estimate.low)}–{number(estimate.high)}")
