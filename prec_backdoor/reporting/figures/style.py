"""Shared style of the figures: colours for the colour-blind, a marker per kind of attack, legends outside the data."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prec_backdoor.attacks import ATTACKS
from prec_backdoor.evaluation.statistics import Estimate

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe & Ito
MARKERS = ("o", "s", "^", "v", "P", "X")
CLEAN, CLEAN_MARKER = "#000000", "D"
LONGEST_NAME = 24
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))


def colour(kind: str) -> str:
    """Returns the colour of a kind of attack, such as "bra group", the same in every figure and run."""
    return COLOURS[_number(kind) % len(COLOURS)]


def marker(kind: str) -> str:
    """Returns the marker of a kind of attack."""
    return MARKERS[_number(kind) % len(MARKERS)]


def _number(kind: str) -> int:
    known = [" ".join(each) for each in ATTACKS]
    return known.index(kind) if kind in known else len(known)


def panels(columns: int, rows: int = 1, width: float = 4.3, height: float = 3.6, **given) -> tuple[Figure, np.ndarray]:
    """Returns a figure and its axes [rows, columns], `width` by `height` inches each."""
    figure = Figure(figsize=(width * columns + 0.5, height * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **given)
    for each in axes.flat:
        each.grid(alpha=0.3, linewidth=0.6)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def legend_below(figure: Figure) -> None:
    """Adds one legend for all panels below them."""
    entries = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    room = figure.get_figwidth() * 72 / (5.2 * max(map(len, entries), default=1) + 42)
    columns = max(1, min(len(entries), int(room)))
    figure.legend(
        entries.values(), entries, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, handlelength=3.2
    )


def errors(estimates: list[Estimate]) -> np.ndarray:
    """Returns lengths of error bars [2, N], below and above the mean."""
    return np.clip([[each.mean - each.low for each in estimates], [each.high - each.mean for each in estimates]], 0, None)


def plain(name: str) -> str:
    """Returns a name from the dataset as text for matplotlib: shortened, and without formulas."""
    name = " ".join(str(name).split())
    short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return short.replace("$", r"\$")


def exposure_scale(axes: Axes, values: list[float]) -> str:
    """Makes the y axis logarithmic if `values` span more than a factor of 20; returns what to add to its label."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) < 20 * min(values):
        axes.set_ylim(bottom=0)
        return ""
    if min(values) > 0:
        axes.set_yscale("log")
        return " (log scale)"
    axes.set_yscale("symlog", linthresh=min(positive))
    axes.set_ylim(bottom=0)
    return " (log scale, linear near 0)"
