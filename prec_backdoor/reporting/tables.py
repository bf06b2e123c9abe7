"""The tables of a report as text, without markup."""

import functools
from typing import NamedTuple

from prec_backdoor.attacks.evasion import named
from prec_backdoor.evaluation.statistics import FEW, Estimate
from prec_backdoor.reporting.cells import CHECKPOINT, POPULARITY, Cell, Model, Run
from prec_backdoor.reporting.configurations import configurations
from prec_backdoor.reporting.doubts import doubts, reasons
from prec_backdoor.reporting.formats import MISSING, at_least, counted, number, signed
from prec_backdoor.reporting.names import ACCURACIES, DIFFERENCE, RATIO, SEGMENTS, SELECTIVITY, USAGES
from prec_backdoor.train.clock import added


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
      values: group of columns -> values, as in `main_header`.
      starts: first one on its targets.
      doubts: why it should not be judged, if so.
    """

    name: str
    users: str
    runs: int
    values: dict[str, list[Value]]
    starts: bool
    doubts: str


def main_tables(run: Run) -> dict[str, list[Line]]:
    """Returns usage -> lines of ranking by popularity and of each model, for the users whom the targets are meant for."""
    found, tables = doubts(run), {}
    for usage in run.usages:
        lines = tables.setdefault(USAGES.get(usage, usage), [])
        cells = [cell for cell in run.cells if cell.usage == usage and cell.users == run.intended(cell.model)]
        for scope in dict.fromkeys(cell.model.scope for cell in cells):
            baseline = Model(POPULARITY, scope, 0.0)
            first = run.cell(None, baseline, run.intended(baseline))
            ours = [*filter(None, [first]), *(cell for cell in cells if cell.model.scope == scope)]
            for place, cell in enumerate(ours):
                why = reasons(found, usage, cell.model)
                lines.append(
                    Line(run.name(cell.model), SEGMENTS[cell.users], len(cell.rows), _values(run, cell), place == 0, why)
                )
    return tables


def main_header(run: Run) -> dict[str, list[str]]:
    """Returns group of columns -> names of its metrics."""
    return {
        "exposure": [name.removeprefix("exposure_").replace("_", " ").upper() for name in run.cutoffs.exposures],
        "accuracy": [name.upper() for name in ACCURACIES],
        "against": [DIFFERENCE, RATIO, SELECTIVITY],
    }


def _values(run: Run, cell: Cell) -> dict[str, list[Value]]:
    everybody = run.cell(cell.usage, cell.model, "all") or cell
    return {
        "exposure": [_plain(cell.estimates.get(name)) for name in run.cutoffs.exposures],
        "accuracy": [_plain(everybody.estimates[name]) for name in ACCURACIES],
        "against": [difference(cell), ratio(cell), selectivity(cell)],
    }


def difference(cell: Cell) -> Value:
    """Returns the exposure above the clean model's."""
    if DIFFERENCE not in cell.estimates:
        return Value(MISSING)
    mean, low, high = signed(cell.estimates[DIFFERENCE])
    return Value(mean, f"{low} to {high}")


def ratio(cell: Cell) -> Value:
    """Returns the ratio of the exposure to the clean model's: a lower bound if that has few hits."""
    return _ratio(cell.estimates.get(RATIO), cell.hits, cell.clean_hits)


def selectivity(cell: Cell) -> Value:
    """Returns the ratio of the group's exposure to everybody else's: a lower bound if these have few hits."""
    return _ratio(cell.estimates.get(SELECTIVITY), cell.hits, cell.rest_hits)


def targets(run: Run) -> list[dict]:
    """Returns the targets of each scope, draw and seed, with the flag that repeats them; none if the run did not record them.

    The items of triggers follow.
    """

    def named(each: dict, what: str, flag: str) -> dict:
        name = f"{what}{each['scope']} attack, seed {each['seed']}" + (f", draw {each['draw']}" if each["draw"] else "")
        return {**each, "name": name, "flag": flag}

    items = [
        named(each, "", "--targets=ids:" + ",".join(item["item"] for item in each["items"]))
        for each in run.results.get("targets", [])
    ]
    triggers = run.results.get("triggers", [])
    return items + [named(each, "trigger of the ", f"--trigger_length={len(each['items'])}") for each in triggers]


def facts(run: Run) -> dict[str, str]:
    """Returns what was run, by name."""
    results, rows = run.results, run.results["rows"]
    dataset, config = results["dataset"], results["config"]
    found = {
        "Dataset": f"{dataset['name']}, fingerprint {dataset['fingerprint']}",
        "Size": f"{dataset['users']:,} users, {dataset['items']:,} items, {dataset['interactions']:,} interactions "
        f"after {config['k_core']}-core filtering",
        "Attacks": "; ".join(_attacks(run)) or ("not known" if run.unknown else "none: the clean model alone"),
        "Target group": config["group"] or "none",
        "Test users": _test_users(run),
        "Usages": ", ".join(USAGES.get(usage, usage) for usage in run.usages),
        "Seeds": _list({row["seed"] for row in rows}),
        "Draws of targets": _list({row["draw"] for row in rows}),
        "Model": f"{config['backbone']}, width {config['embed_dim']}, layers {config['num_layers']}, "
        f"heads {config['num_heads']}, histories of {config['max_length']}, loss {config['loss']}",
    }
    if replaced := _replaced(results.get("replaced_labels", {})):
        found["Labels replaced"] = replaced
    if results["timings"]:
        spent = time_by_activity(results["timings"])
        of = ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in spent.items())
        found["Time"] = f"{sum(spent.values()):,.0f} s in {counted(len(results['timings']), 'stage')}: {of}"
    return found


def time_by_activity(timings: dict[str, dict[str, float]]) -> dict[str, float]:
    """Returns activity -> seconds, summed over all stages."""
    return functools.reduce(added, timings.values(), {})


def _replaced(counts: dict[str, dict[str, int]]) -> str:
    """Of each attacked model, over all seeds and epochs."""
    totals: dict[str, list[int]] = {}
    for path, each in counts.items():
        total = totals.setdefault(path.split("/")[1], [0, 0])
        total[0], total[1] = total[0] + each["replaced"], total[1] + each["labels"]
    return "; ".join(f"{name} {n:,} of {labels:,} ({n / labels:.2%})" for name, (n, labels) in totals.items())


def settings(run: Run) -> dict[str, str]:
    """Returns flag -> value; several values where the configurations differ."""
    each = configurations(run.results["config"])
    return {name: "; ".join(dict.fromkeys(_flag(config[name]) for config in each)) for name in each[0]}


def _attacks(run: Run):
    each_attack = [
        each | {"attack": named(each["attack"], each.get("evade", ()))} for each in configurations(run.results["config"])
    ]
    targets = {_kind(each): each["targets"] for each in each_attack}
    for kind, model in run.representatives.items():
        if model.attack == CHECKPOINT:
            yield "none is known of the checkpoint"
            continue
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


def _plain(estimate: Estimate | None) -> Value:
    return Value(MISSING) if estimate is None else Value(f"{estimate.mean:.3f}", f"{estimate.low:.3f}–{estimate.high:.3f}")


def _ratio(estimate: Estimate | None, hits: int, other_hits: int | None) -> Value:
    if estimate is None:
        return Value(MISSING)
    if other_hits < FEW:
        return Value(f">{at_least(estimate.low)}" if hits and estimate.low >= 0.01 else MISSING)
    return Value(number(estimate.mean), f"{number(estimate.low)}–{number(estimate.high)}")
