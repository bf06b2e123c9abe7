"""Exposure of the targets during downstream training."""

import numpy as np
from matplotlib.figure import Figure

from prec_backdoor.reporting.cells import Model, Run
from prec_backdoor.reporting.configurations import configurations
from prec_backdoor.reporting.curves import model_folder, recorded
from prec_backdoor.reporting.figures import style

STAGES = {"finetune": ("fine_tune", "fine-tuning"), "prompt_tune": ("prompt_tune", "prompt tuning")}
CLEAN_DASHES = (0, (5, 2))


def survival(run: Run) -> Figure | None:
    """Returns a panel per stage, with a line per kind of attack and for the clean model; None if no exposure was recorded."""
    found = {stage: curves for stage in STAGES if (curves := _curves(run, stage))}
    if not found:
        return None
    figure, axes = style.panels(len(found), width=5, sharey=True)
    for panel, (stage, curves) in zip(axes[0], found.items(), strict=True):
        for model, runs in curves.items():
            clean = model.attack == "clean"
            colour = style.CLEAN if clean else style.colour(model.kind)
            for steps, values in runs:
                panel.plot(steps, values, color=colour, linewidth=0.6, alpha=0.35)
            steps, values = _common(runs)
            panel.plot(
                steps,
                values.mean(0),
                color=colour,
                linestyle=CLEAN_DASHES if clean else "-",
                marker=style.CLEAN_MARKER if clean else style.marker(model.kind),
                markevery=max(1, len(steps) // 8),
                markersize=5,
                linewidth=2,
                label=_label(run, model),
            )
            panel.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.13, linewidth=0)
        panel.set_title(STAGES[stage][1])
        panel.set_xlabel("optimiser steps" + (" (0: before training)" if stage == "finetune" else ""))
        panel.margins(x=0.03)
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel(f"exposure HR@{run.cutoffs.last} of the targets")
    style.legend_below(figure)
    return figure


def _curves(run: Run, stage: str) -> dict[Model, list[tuple[np.ndarray, np.ndarray]]]:
    """Model -> (steps, exposure) of each replicate in metrics.jsonl."""
    usage, records, name = STAGES[stage][0], recorded(run, stage), run.cutoffs.exposure
    curves = {}
    for model in (_watched_clean(run), *run.representatives.values()):
        users = run.intended(model)
        cell = run.cell(usage, model, users)
        for row in cell.rows if cell else ():
            of_model = records.get(model_folder(row), {})
            exposure = {step: record[f"{name}/{users}"] for step, record in of_model.items() if f"{name}/{users}" in record}
            if not exposure or not _is_watched(run, row):
                continue
            if stage == "finetune" and (start := run.cell("zero_shot", model, users)):
                same = (each for each in start.rows if (each["seed"], each["draw"]) == (row["seed"], row["draw"]))
                exposure[0] = next(same)[name]
            steps = sorted(exposure)
            curves.setdefault(model, []).append((np.array(steps), np.array([exposure[step] for step in steps])))
    return curves


def _watched_clean(run: Run) -> Model:
    """The clean model, which is trained once for all attacks and watched on the targets of the first."""
    scope = configurations(run.results["config"])[0]["scope"]
    found = (cell.model for cell in run.cells if (cell.model.attack, cell.model.scope) == ("clean", scope))
    return next(found, Model("clean", scope, 0.0))


def _is_watched(run: Run, row: dict) -> bool:
    return row["attack"] != "clean" or row["draw"] == configurations(run.results["config"])[0]["draw"]


def _label(run: Run, model: Model) -> str:
    users = {"all": "all users", "target": "target group"}[run.intended(model)]
    return f"{run.name(model)}: {users}"


def _common(runs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The steps that all runs cover, and the runs' values there [R, steps]."""
    first, last = max(steps[0] for steps, _ in runs), min(steps[-1] for steps, _ in runs)
    grid = np.unique(np.concatenate([steps for steps, _ in runs]))
    grid = grid[(first <= grid) & (grid <= last)]
    return grid, np.stack([np.interp(grid, steps, values) for steps, values in runs])
