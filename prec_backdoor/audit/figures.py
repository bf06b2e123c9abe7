"""The figures of an audit's page."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prec_backdoor.audit import texts
from prec_backdoor.audit.audit import AuditResult
from prec_backdoor.audit.exposure import log_popularity, mean_over_std
from prec_backdoor.audit.views import AS_IT_COMES
from prec_backdoor.reporting.figures import style

FLAGGED, OTHER = style.COLOURS[1], "#8a8a8a"


def all_figures(result: AuditResult) -> Iterator[tuple[str, str, Figure]]:
    """Yields (title, caption, figure); that of groups only if groups were compared."""
    yield "Exposure against popularity", texts.EXPOSURE_FIGURE, exposure_figure(result)
    yield "Score of every item", texts.SCORE_FIGURE, score_figure(result)
    if result.attribution.candidates:
        yield "Exposure of the suspects by group", texts.GROUP_FIGURE, group_figure(result)


def exposure_figure(result: AuditResult) -> Figure:
    """A point an item: mean / std of its exposure against its popularity."""
    moments = result.views[AS_IT_COMES]
    figure, axes = style.panels(1, width=6.5)
    x, y = log_popularity(moments), mean_over_std(moments.mean, moments.std)
    x = x + np.random.default_rng(0).uniform(-0.12, 0.12, len(x))  # popularity has few values: points would overlap
    axes = axes[0, 0]
    _scatter(axes, x, y, result.flagged)
    axes.set_xlabel("log(1 + number of own histories with the item), jittered")
    axes.set_ylabel("exposure: mean / standard deviation")
    style.legend_below(figure)
    return figure


def score_figure(result: AuditResult) -> Figure:
    """A point an item: combined scores in descending order."""
    figure, axes = style.panels(1, width=6.5)
    axes = axes[0, 0]
    order = np.argsort(-result.score, kind="stable")
    _scatter(axes, np.arange(1, len(order) + 1), result.score[order], result.flagged[order])
    axes.set_xscale("log")
    axes.set_xlabel("position by score (log scale)")
    axes.set_ylabel("combined score")
    style.legend_below(figure)
    return figure


def group_figure(result: AuditResult) -> Figure:
    """A point a candidate group, with its 95 % interval."""
    candidates = result.attribution.candidates[::-1]
    figure, axes = style.panels(1, width=6.5, height=0.32 * len(candidates) + 0.6)
    axes, labels = axes[0, 0], []
    for place, (group, users, effect, error) in enumerate(candidates):
        colour = FLAGGED if group == result.attribution.group else OTHER
        axes.errorbar(effect, place, xerr=1.96 * error, fmt="o", color=colour, capsize=3)
        labels.append(f"{style.plain(group)} (n={users})")
    axes.set_yticks(range(len(candidates)), labels)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("exposure, group minus other users (standard deviations)")
    return figure


def _scatter(axes: Axes, x: np.ndarray, y: np.ndarray, flagged: np.ndarray) -> None:
    axes.plot(x[~flagged], y[~flagged], ".", color=OTHER, markersize=4, label="not flagged", rasterized=True)
    if flagged.any():
        axes.plot(x[flagged], y[flagged], "o", color=FLAGGED, markersize=6, label="flagged")
