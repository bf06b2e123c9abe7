"""Exposure of the targets against accuracy lost."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from prec_backdoor.evaluation.statistics import Estimate
from prec_backdoor.reporting.cells import Model, Run
from prec_backdoor.reporting.figures import style
from prec_backdoor.reporting.names import ACCURACY_AT, EXPOSURE, LOST, USAGES

DIRECTIONS = [(np.cos(angle), np.sin(angle)) for angle in np.radians([45, -45, 135, -135, 90, -90, 0, 180])]
FILLS = (None, "white", "#cccccc")  # of markers, by parameters of the attack
DISTANCES = (5, 11, 18, 26)  # of a label from its point, in points


class Label(NamedTuple):
    """The label of a point."""

    axes: Axes
    point: tuple[float, float]
    model: Model


def stealth_plane(run: Run) -> Figure | None:
    """Returns a panel per usage with a point per attacked model; None without a clean model to compare with."""
    points = {
        (usage, model): (cell.estimates[EXPOSURE], _percent(everybody.estimates[LOST]))
        for usage in run.usages
        for model in run.attacked
        if (cell := run.cell(usage, model, run.intended(model))) and (everybody := run.cell(usage, model, "all"))
        if LOST in everybody.estimates
    }
    if not points:
        return None
    usages = [usage for usage in run.usages if any(key[0] == usage for key in points)]
    figure, axes = style.panels(len(usages), width=4.8, height=4.2, sharey=True, sharex=True)
    lines = list(dict.fromkeys((model.kind, model.parameters) for _, model in points))
    labels, shown = [], []
    for panel, usage in zip(axes[0], usages, strict=True):
        panel.axvline(0, color="#777777", linewidth=0.8)
        for kind in dict.fromkeys(kind for kind, _ in lines):
            clean = run.clean_of(run.representatives[kind])
            reference = run.cell(usage, clean, run.intended(run.representatives[kind]))
            level = reference.estimates[EXPOSURE].mean
            panel.plot(
                0,
                level,
                marker=style.CLEAN_MARKER,
                color=style.CLEAN,
                linestyle="",
                label="clean models",
                zorder=3,
                clip_on=False,
            )
            shown.append(level)
        for kind, parameters in lines:
            models = [m for u, m in points if u == usage and (m.kind, m.parameters) == (kind, parameters)]
            exposed, lost = zip(*(points[usage, model] for model in models), strict=True)
            x, y = [each.mean for each in lost], [each.mean for each in exposed]
            shown += y
            number = [other for other in lines if other[0] == kind].index((kind, parameters))
            bars = dict(color=style.colour(kind), linestyle="", alpha=0.3, elinewidth=1, zorder=1)
            panel.errorbar(x, y, style.errors(exposed), style.errors(lost), **bars)
            panel.plot(
                x,
                y,
                color=style.colour(kind),
                marker=style.marker(kind),
                markerfacecolor=FILLS[number % len(FILLS)] or style.colour(kind),
                linestyle=style.DASHES[number % len(style.DASHES)],
                linewidth=1.3,
                markersize=6.5,
                label=f"{kind}{models[0].parameter_text}",
            )
            labels += [Label(panel, (left, up), model) for left, up, model in zip(x, y, models, strict=True)]
        panel.set_title(USAGES.get(usage, usage))
        panel.set_xlabel(f"HR@{ACCURACY_AT} lost against the clean model, %")
    scale = style.exposure_scale(axes[0, 0], shown)
    axes[0, 0].set_ylabel(f"exposure HR@{run.cutoffs.last} of the targets{scale}")
    style.legend_below(figure)
    _place(figure, labels)
    return figure


def _percent(estimate: Estimate) -> Estimate:
    return Estimate(*(100 * value for value in estimate))


def _place(figure: Figure, labels: list[Label]) -> None:
    """Writes each rate beside its point, where it covers least of points and other labels, with a line to it if it is far."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()  # fixes the layout
    scale = figure.dpi / 72
    for axes in dict.fromkeys(label.axes for label in labels):
        taken = _drawn(axes, scale)
        inside = axes.get_window_extent().extents
        for _, point, model in (label for label in labels if label.axes is axes):
            place = axes.transData.transform(point)
            label = axes.annotate(f"{model.rate:g}", point, xytext=(0, 0), textcoords="offset points", fontsize=8.5, zorder=4)
            label.set_color(0.65 * np.array(to_rgb(style.colour(model.kind))))  # darker, to be legible
            label.set_in_layout(False)
            size = label.get_window_extent(renderer).size
            offset, box = min(_spots(place, size, scale), key=lambda spot: _cost(spot, place, taken, inside, scale))
            label.set_position(offset / scale)
            taken.append(box)
            if np.hypot(*offset) > 2.2 * DISTANCES[1] * scale:
                nearest = np.clip(place, box[:2], box[2:])
                ends = axes.transData.inverted().transform([place, nearest])
                axes.plot(*ends.T, color="#777777", linewidth=0.6, zorder=2)


def _drawn(axes: Axes, scale: float) -> list[tuple[float, float, float, float]]:
    """Boxes, in pixels, that markers and the lines between them cover."""
    boxes = []
    for line in axes.lines:
        if line.get_marker() in ("", "None"):
            continue
        points = line.get_transform().transform(line.get_xydata())
        boxes += [_around(point, 5 * scale) for point in points]
        for start, end in zip(points, points[1:], strict=False):
            steps = np.linspace(0, 1, int(np.hypot(*(end - start)) / (2 * scale)) + 1)[:, None]
            boxes += [_around(point, scale) for point in start + steps * (end - start)]
    return boxes


def _around(point: np.ndarray, half: float) -> tuple[float, float, float, float]:
    return (*(point - half), *(point + half))


def _spots(place: np.ndarray, size: np.ndarray, scale: float):
    """(offset of the lower left corner, box) of each place for a label around `place`, in pixels, nearest first."""
    for distance in DISTANCES:
        for direction in np.array(DIRECTIONS):
            corner = direction * distance * scale + (direction - 1) * size / 2
            yield corner, (*(place + corner), *(place + corner + size))


def _cost(spot, place, taken, inside, scale: float) -> float:
    offset, box = spot
    covered = sum(_overlap(box, other) for other in taken)
    area = (box[2] - box[0]) * (box[3] - box[1])
    outside = area - _overlap(box, inside)
    return 10 * covered + 50 * outside + np.hypot(*(np.add(box[:2], box[2:]) / 2 - place)) / scale


def _overlap(a, b) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
