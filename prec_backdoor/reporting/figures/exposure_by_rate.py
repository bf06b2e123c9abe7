"""Exposure of the targets against the replacement rate."""

import numpy as np
from matplotlib.figure import Figure

from prec_backdoor.reporting.cells import CHECKPOINT, Model, Run
from prec_backdoor.reporting.figures import style
from prec_backdoor.reporting.names import EXPOSURE, SEGMENTS, USAGES

APART = 0.008  # shift of each line, as a share of the axis, so that intervals do not overlap
MIN_GAP = 0.085  # between two labelled rates, as a share of the axis


def exposure_by_rate(run: Run) -> Figure | None:
    """Returns a panel per usage and a line per kind of attack, parameters and segment; None unless two rates were measured."""
    lines = _lines(run)
    if all(len(models) < 2 for models in lines.values()):
        return None
    figure, axes = style.panels(len(run.usages), width=4.1, sharey=True)
    rates = sorted({0.0, *(model.rate for model in run.attacked)})
    for panel, usage in zip(axes[0], run.usages, strict=True):
        for place, ((kind, parameters, users), models) in enumerate(lines.items()):
            found = [run.cell(usage, model, users) for model in models]
            cells = [cell for cell in found if cell is not None]
            estimates = [cell.estimates[EXPOSURE] for cell in cells]
            roots = np.sqrt([cell.model.rate for cell in cells])
            number = sorted({key[1] for key in lines if key[0] == kind}).index(parameters)
            panel.errorbar(
                (roots + APART * np.sqrt(rates[-1]) * place) ** 2,
                [each.mean for each in estimates],
                style.errors(estimates),
                color=style.colour(kind),
                marker=style.marker(kind),
                linestyle=(0, (2, 2)) if users == "rest" else style.DASHES[number % len(style.DASHES)],
                markerfacecolor="white" if users == "rest" else None,
                label=f"{kind}{models[-1].parameter_text}: {SEGMENTS[users]}",
                markersize=5.5,
                linewidth=1.4,
                elinewidth=1,
                capsize=2.5,
            )
        panel.set_xscale("function", functions=(lambda x: np.sign(x) * np.sqrt(abs(x)), lambda y: np.sign(y) * np.square(y)))
        panel.set_xlim(-0.001 * rates[-1], 1.12 * rates[-1])
        panel.set_xticks(_ticks(rates))
        panel.set_xticks([], minor=True)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.set_title(USAGES.get(usage, usage))
        panel.set_xlabel("replacement rate (0: clean; square-root scale)")
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel(f"exposure HR@{run.cutoffs.last} of the targets")
    style.legend_below(figure)
    return figure


def _lines(run: Run) -> dict[tuple, list[Model]]:
    """(kind, parameters, segment) -> the models on a line, the clean one first if it was measured.

    If models of one kind differ in parameters, only the target group's exposure is drawn, to keep lines few.
    """
    lines, measured = {}, {cell.model for cell in run.cells}
    for model in run.attacked:
        if model.attack == CHECKPOINT:  # of whose rate nothing is known
            continue
        variants = {other.parameters for other in run.attacked if other.kind == model.kind}
        intended = run.intended(model)
        for users in (intended, "rest") if intended == "target" and len(variants) == 1 else (intended,):
            start = [each for each in (run.clean_of(model),) if each in measured]
            lines.setdefault((model.kind, model.parameters, users), start).append(model)
    return lines


def _ticks(rates: list[float]) -> list[float]:
    """The rates whose labels have room, the first and the last included."""
    places = np.sqrt(np.array(rates) / rates[-1])
    kept = [len(rates) - 1]
    for number in reversed(range(len(rates) - 1)):
        if places[kept[-1]] - places[number] >= MIN_GAP and (number == 0 or places[number] >= MIN_GAP):
            kept.append(number)
    return [rates[number] for number in reversed(kept)]
