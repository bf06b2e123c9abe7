"""report.md and its figures, from what a run left on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from prec_backdoor import workdir as work
from prec_backdoor.evaluation.statistics import DRAWS, bootstrap_interval

EXPOSURE_AT = 50
COLOURS = {"target": "#d55e00", "rest": "#0072b2", "all": "#000000"}  # Okabe & Ito, safe for the colour-blind
SEGMENTS = {"all": "all users", "target": "target group", "rest": "everybody else"}


class Cell(NamedTuple):
    """One line of the table: a model in one usage, seen by one segment of users; figures are means over seeds."""

    usage: str
    attack: str
    rate: float
    users: str
    means: dict[str, float]
    exposure_interval: tuple[float, float]
    accuracy_interval: tuple[float, float]


def cells(folder: Path, results: dict) -> list[Cell]:
    """All cells of a run, usage by usage, clean first, then by rate."""
    groups: dict[tuple, list[dict]] = {}
    for row in results["rows"]:
        groups.setdefault((row["usage"], row["attack"], row["rate"], row["users"]), []).append(row)
    order = results["config"]["usages"]
    found = []
    for key in sorted(groups, key=lambda key: (order.index(key[0]), key[2], list(SEGMENTS).index(key[3]))):
        rows = groups[key]
        means = {
            name: float(np.mean([row[name] for row in rows]))
            for name, value in rows[0].items()
            if isinstance(value, float) and name != "rate"
        }
        found.append(Cell(*key, means, *_intervals(folder, *key, [row["seed"] for row in rows])))
    return found


def summary_table(folder: Path, results: dict) -> str:
    """The run as a Markdown table, also fit for a terminal."""
    header = ("usage", "model", "users", "HR@10", "95 %", "exposure HR@10", f"HR@{EXPOSURE_AT}", "95 %", f"lift@{EXPOSURE_AT}")
    lines = [header]
    for cell in cells(folder, results):
        lines.append(
            (
                cell.usage,
                _model(cell),
                cell.users,
                f"{cell.means['hr@10']:.3f}",
                _span(cell.accuracy_interval),
                f"{cell.means['exposure_hr@10']:.3f}",
                f"{cell.means[f'exposure_hr@{EXPOSURE_AT}']:.3f}",
                _span(cell.exposure_interval),
                f"{cell.means[f'lift@{EXPOSURE_AT}']:.1f}" if f"lift@{EXPOSURE_AT}" in cell.means else "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["| " + " | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def write_report(folder: Path, results: dict) -> Path:
    """Writes report.md and figures/exposure_by_rate.png; returns the report's path."""
    figure = folder / "figures" / "exposure_by_rate.png"
    figure.parent.mkdir(exist_ok=True)
    exposure_by_rate(cells(folder, results)).savefig(figure, dpi=150)
    dataset, config = results["dataset"], results["config"]
    group = f", group {config['group']}" if config["group"] else ""
    seconds = sum(results["timings"].values())
    report = folder / "report.md"
    report.write_text(
        f"""# Backdoor of a pre-trained recommender: {config["attack"]}, {config["scope"]}

Dataset {dataset["name"]} (fingerprint {dataset["fingerprint"]}): {dataset["users"]:,} users, {dataset["items"]:,} items,
{dataset["interactions"]:,} interactions after {config["k_core"]}-core filtering. Targets {config["targets"]}{group}, replacement
rate {", ".join(f"{rate:g}" for rate in config["rate"])}, seeds {", ".join(map(str, config["seeds"]))}.
Training took {seconds:.0f} s.

{summary_table(folder, results)}

HR@10: accuracy, how often the user's real next item is among the ten highest ranked of the whole catalogue. Exposure: how often a
target is among the K highest ranked. Lift: target hits + 1 over the hits of the clean model of the same seed and usage + 1.
Means over seeds; 95 % intervals from {DRAWS:,} bootstrap draws of seeds and, within them, users.

{chr(10).join("- " + finding for finding in findings(cells(folder, results)))}

![Exposure by rate](figures/{figure.name})

All figures: results.json and results.csv; training curves: metrics.jsonl; ranks of every user: seed-*/*/*.npz.
"""
    )
    return report


def findings(found: list[Cell]) -> Iterator[str]:
    """One statement for each attacked model and usage, no stronger than the intervals carry."""
    segment = "target" if any(cell.users == "target" for cell in found) else "all"
    by_key = {(cell.usage, cell.rate, cell.users): cell for cell in found}
    for cell in found:
        before = by_key.get((cell.usage, 0.0, segment))
        if cell.attack == "clean" or cell.users != segment or before is None:
            continue
        low, high = cell.exposure_interval
        mean = cell.means[f"exposure_hr@{EXPOSURE_AT}"]
        text = f"{cell.usage}, {_model(cell)}, {SEGMENTS[segment]}: "
        text += f"exposure HR@{EXPOSURE_AT} is {mean:.3f} ({low:.3f} to {high:.3f})"
        if low > before.exposure_interval[1]:
            factor = low / before.exposure_interval[1] if before.exposure_interval[1] else None
            text += ", above the clean model's" + (f" at least {factor:.1f} times" if factor else ", which never shows one")
        else:
            text += ", not distinguishable from the clean model's"
        overall, clean_overall = by_key[cell.usage, cell.rate, "all"], by_key[cell.usage, 0.0, "all"]
        change = overall.means["hr@10"] / max(clean_overall.means["hr@10"], 1e-9) - 1
        yield f"{text}; HR@10 of the real item changes by {change:+.1%}."


def exposure_by_rate(found: list[Cell]) -> Figure:
    """Exposure of the targets against the replacement rate, a panel a usage; the clean model stands at rate 0."""
    usages = list(dict.fromkeys(cell.usage for cell in found))
    figure = Figure(figsize=(4.2 * len(usages) + 0.6, 3.8), layout="constrained")
    panels = figure.subplots(1, len(usages), sharey=True, squeeze=False)[0]
    rates = sorted({cell.rate for cell in found})
    apart = 0.012 * rates[-1]  # intervals of the segments stand beside each other
    for panel, usage in zip(panels, usages, strict=True):
        for place, (users, label) in enumerate(SEGMENTS.items()):
            line = [cell for cell in found if (cell.usage, cell.users) == (usage, users)]
            if not line:
                continue
            means = np.array([cell.means[f"exposure_hr@{EXPOSURE_AT}"] for cell in line])
            low, high = np.array([cell.exposure_interval for cell in line]).T
            error = np.clip([means - low, high - means], 0, None)
            panel.errorbar(
                [cell.rate + apart * (place - 1) for cell in line],
                means,
                error,
                color=COLOURS[users],
                label=label,
                marker="o",
                ms=5,
                capsize=3,
            )
        panel.set_xticks(rates, [f"{rate:g}" for rate in rates])
        panel.set_title(usage.replace("_", "-"))
        panel.set_xlabel("replacement rate (0: clean model)")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"exposure HR@{EXPOSURE_AT} of the targets")
    panels[0].set_ylim(bottom=0)
    panels[0].legend(frameon=False)
    return figure


def _model(cell: Cell) -> str:
    return "clean" if cell.attack == "clean" else f"{cell.attack} {cell.rate:g}"


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f}..{interval[1]:.3f}"


def _intervals(folder: Path, usage: str, attack: str, rate: float, users: str, seeds: list[int]):
    shown, pairs, right, everyone = [], [], [], []
    for seed in seeds:
        ranks = work.load_ranks(work.cell_folder(folder, seed, attack, rate) / f"{usage}.npz")
        chosen = {"all": slice(None), "target": ranks["in_group"], "rest": ~ranks["in_group"]}[users]
        targets, truth = ranks["targets"][chosen], ranks["truth"][chosen]
        shown.append((targets <= EXPOSURE_AT).sum(1))
        pairs.append(np.isfinite(targets).sum(1))
        right.append(truth <= 10)
        everyone.append(np.ones(len(truth)))
    return bootstrap_interval(shown, pairs), bootstrap_interval(right, everyone)
