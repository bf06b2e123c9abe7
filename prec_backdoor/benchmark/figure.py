"""benchmark.json's rows as one figure."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prec_backdoor.benchmark.rows import RATES
from prec_backdoor.benchmark.systems import PLAIN_JIT

COLOURS = {  # Okabe & Ito
    "prec_backdoor": "#0072b2",
    "torch_all_positions": "#d55e00",
    "torch_sparse_adam": "#009e73",
    "torch_row_per_position": "#e69f00",
    "recbole": "#cc79a7",
    "torch_topk": "#d55e00",
    "released_argsort": "#e69f00",
}
SERIES = {"catalogue": ("items", "items in the catalogue"), "history": ("max_length", "longest history, in items")}


def draw(rows: list[dict]) -> Figure | None:
    """A panel for each task that there are rows of; None where none can be drawn."""
    tasks = [task for task in ("train", "evaluate", *SERIES) if any(row["task"] == task for row in rows)]
    if not tasks:
        return None
    columns = min(len(tasks), 2)
    lines = -(-len(tasks) // columns)
    figure = Figure(figsize=(4.8 * columns + 0.4, 3.8 * lines), layout="constrained")
    for place, task in enumerate(tasks, 1):
        axes = figure.add_subplot(lines, columns, place)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3, linewidth=0.6)
        axes.set_axisbelow(True)
        chosen = [row for row in rows if row["task"] == task and row["system"] != PLAIN_JIT]
        (_costs if task in SERIES else _bars)(axes, task, chosen)
    return figure


def _bars(axes: Axes, task: str, rows: list[dict]) -> None:
    """Throughput, a bar a system, a cluster a catalogue size; whiskers from the least to the most of the rounds."""
    sizes = sorted({row["items"] for row in rows})
    systems = list(dict.fromkeys(row["system"] for row in rows))
    width = 0.8 / len(systems)
    name = next(name for name in RATES.values() if name in rows[0])
    for index, system in enumerate(systems):
        own = [row for row in rows if row["system"] == system]
        at = [sizes.index(row["items"]) + (index - (len(systems) - 1) / 2) * width for row in own]
        values = [row[name] for row in own]
        spread = [[row[name] - row["least"] for row in own], [row["most"] - row[name] for row in own]]
        bars = axes.bar(at, values, width, color=COLOURS.get(system), label=system, yerr=spread, error_kw={"linewidth": 0.8})
        axes.bar_label(bars, [f"{value:,.0f}" for value in values], fontsize=7, padding=2, rotation=90)
    axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
    axes.margins(y=0.3)  # for the numbers
    axes.set(yscale="log", xlabel="items in the catalogue", ylabel=name.replace("_", " ") + " (log scale)")
    axes.set_title("Training" if task == "train" else "Ranking")
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _costs(axes: Axes, task: str, rows: list[dict]) -> None:
    name, label = SERIES[task]
    rows = sorted(rows, key=lambda row: row[name])
    axes.plot([row[name] for row in rows], [row["step_ms"] for row in rows], "o-", color=COLOURS["prec_backdoor"])
    axes.set(xscale="log", xlabel=label, ylabel="step, ms", title=f"Step cost of prec_backdoor by {task}")
    axes.set_xticks([row[name] for row in rows], [f"{row[name]:,}" for row in rows], minor=False)
    axes.minorticks_off()
    axes.margins(y=0.1)
    axes.set_ylim(bottom=0)
