"""Distribution of the ranks of the targets, clean and attacked."""

import numpy as np
from matplotlib.figure import Figure

from prec_backdoor.reporting.cells import Run
from prec_backdoor.reporting.figures import style
from prec_backdoor.reporting.names import SEGMENTS, USAGES
from prec_backdoor.reporting.rank_files import load_ranks, segment_masks


def rank_distributions(run: Run) -> Figure:
    """Returns a panel per kind of attack or, without an attack, one for the clean model."""
    usage = run.plainest_usage
    attacked = list(run.representatives.values())
    shown = attacked or list(dict.fromkeys(cell.model for cell in run.cells))
    figure, axes = style.panels(len(shown), sharey=True)
    ranks = np.unique(np.geomspace(1, run.results["dataset"]["items"], 400).astype(int))
    for panel, model in zip(axes[0], shown, strict=True):
        segments = ("target", "rest") if run.intended(model) == "target" else ("all",)
        clean = run.clean_of(model)
        for drawn in dict.fromkeys((clean, model)):
            name = "clean" if drawn == clean else drawn.kind
            for users in segments:
                if not (cell := run.cell(usage, drawn, users)):
                    continue
                panel.plot(
                    ranks,
                    _share_within(run, cell.rows, ranks),
                    color=style.CLEAN if drawn == clean else style.colour(model.kind),
                    linestyle=(0, (4, 2)) if users == "rest" else "-",
                    linewidth=1.1 if drawn == clean else 2.2,
                    label=f"{name}: {SEGMENTS[users]}",
                )
        panel.axvline(run.cutoffs.last, color="#777777", linewidth=0.9, linestyle=":", label=f"k = {run.cutoffs.last}")
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        panel.set_xlim(1, ranks[-1])
        panel.set_ylim(0, 1)
        panel.set_title(f"{run.name(model)}, {USAGES.get(usage, usage)}")
        panel.set_xlabel("rank k (log scale)")
    axes[0, 0].set_ylabel("share of (user, target) pairs with rank ≤ k")
    style.legend_below(figure)
    return figure


def _share_within(run: Run, rows: list[dict], ranks: np.ndarray) -> np.ndarray:
    """[len(ranks)] over the pairs of all replicates."""
    within, pairs = np.zeros(len(ranks)), 0
    for row in rows:
        found = load_ranks(run.folder, row)["targets"][segment_masks(run.folder, row["seed"])[row["users"]]]
        found = np.sort(found[np.isfinite(found)])
        within += np.searchsorted(found, ranks, side="right")
        pairs += len(found)
    return within / max(pairs, 1)
