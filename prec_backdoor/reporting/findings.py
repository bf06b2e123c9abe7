"""What a run shows, in sentences that claim no more than the intervals support."""

from collections.abc import Iterator

from prec_backdoor.evaluation.statistics import FEW, Estimate
from prec_backdoor.reporting.cells import Cell, Run
from prec_backdoor.reporting.formats import at_least, number, percent, signed
from prec_backdoor.reporting.names import (
    ACCURACY_AT,
    CUTOFFS,
    DIFFERENCE,
    EXPOSURE,
    LEFT,
    LOST,
    RATIO,
    SEGMENTS,
    SELECTIVITY,
    USAGES,
)

FEW_SEEDS = 3


def findings(run: Run) -> dict[str, list[tuple[str, str]]]:
    """Returns usage -> (model, sentences about it), for each attacked model or, in a run without one, for the clean model."""
    shown = run.attacked or list(dict.fromkeys(cell.model for cell in run.cells))
    found: dict[str, list[tuple[str, str]]] = {}
    for usage in run.usages:
        for model in shown:
            cell, everybody = run.cell(usage, model, run.intended(model)), run.cell(usage, model, "all")
            if cell and everybody:
                text = " ".join(_sentences(run, cell, everybody))
                found.setdefault(USAGES.get(usage, usage), []).append((run.name(model), text))
    return found


def in_short(run: Run) -> dict[str, dict[str, str]]:
    """Returns kind of attack -> usage -> whether exposure rises and accuracy is lost, or in how many of several models."""
    found: dict[str, dict[str, str]] = {}
    for usage in run.usages:
        for kind in run.representatives:
            models = [model for model in run.attacked if model.kind == kind]
            intended = [cell for model in models if (cell := run.cell(usage, model, run.intended(model)))]
            cells = [cell for cell in intended if RATIO in cell.estimates]
            everybody = [cell for model in models if (cell := run.cell(usage, model, "all"))]
            lost = [cell.estimates[LOST] for cell in everybody if LOST in cell.estimates]
            if cells:
                found.setdefault(kind, {})[USAGES.get(usage, usage)] = _counts(cells, lost)
    return found


def caveats(run: Run) -> Iterator[str]:
    """Yields what limits the intervals of this run."""
    seeds = len({row["seed"] for row in run.results["rows"]})
    if seeds == 1:
        yield "One seed: the intervals cover the variation between users, not that between trainings or splits of the users."
    elif seeds < FEW_SEEDS:
        yield f"{seeds} seeds: the variation between trainings is known only roughly, and so are the intervals."
    if run.attacked and not any(cell.model.attack == "clean" for cell in run.cells):
        yield "No clean model was measured: no rise in exposure and no loss of accuracy can be reported."
    if run.unknown:
        yield (
            "Your own data: nothing is known of an attack. The targets are those that the checkpoint's metadata name or, if they "
            "name none, one unpopular item in their place."
        )
    if run.cutoffs.last < CUTOFFS[-1]:
        yield (
            f"Exposure is reported at K = {run.cutoffs.last}: for the users with the longest histories no more than "
            f"{CUTOFFS[-1]} items compete, so that every model has HR@{CUTOFFS[-1]} = 1."
        )


def _counts(cells: list[Cell], lost: list[Estimate]) -> str:
    risen = [cell for cell in cells if cell.estimates[DIFFERENCE].low > 0]
    surest = max(risen, key=lambda cell: cell.estimates[RATIO].low, default=None)
    many, costly = len(cells) > 1, sum(each.low > 0 for each in lost)
    waits = any(name.startswith("exposure_triggered_") for cell in cells for name in cell.estimates)
    text = f"exposure measurably rises in {len(risen)} of {len(cells)} models" if many else "exposure rises"
    if surest:
        most = f"{f'most at rate {surest.model.rates}: ' if many else ''}at least {at_least(surest.estimates[RATIO].low)} times"
        text += f" ({most} the clean model's)"
    elif not many:
        text = "exposure is not distinguishable from the clean model's"
        text = "exposure falls" if cells[0].estimates[DIFFERENCE].high < 0 else text
    text = f"without the trigger, {text}" if waits else text
    if len(lost) > 1:
        text += f"; accuracy is measurably lost in {costly} of {len(lost)}"
    elif lost:
        text += "; accuracy is lost" if costly else "; no measurable loss of accuracy"
    return f"{text}."


def _sentences(run: Run, cell: Cell, everybody: Cell) -> Iterator[str]:
    yield _exposure(run, cell)
    if shown := cell.estimates.get(f"exposure_triggered_hr@{run.cutoffs.last}"):
        yield f"With the trigger at the end of their histories it is {shown.mean:.3f} ({shown.low:.3f} to {shown.high:.3f})."
    if lost := everybody.estimates.get(LOST):
        yield _accuracy(lost)
    if run.attacked and SELECTIVITY in cell.estimates:
        yield _selectivity(cell)
    if left := cell.estimates.get(LEFT):
        yield f"Of the exposure that the attack adds zero-shot, {percent(left)} is left."


def _exposure(run: Run, cell: Cell) -> str:
    exposure, difference = cell.estimates[EXPOSURE], cell.estimates.get(DIFFERENCE)
    segment = SEGMENTS[cell.users]
    who = f"{segment[0].upper()}{segment[1:]}: exposure HR@{run.cutoffs.last}"
    level = f"{exposure.mean:.3f} ({exposure.low:.3f} to {exposure.high:.3f})"
    if difference is None:
        return f"{who} is {level}."
    mean, low, high = signed(difference)
    by = f"difference {mean}, {low} to {high}"
    if difference.low <= 0 <= difference.high:
        return f"{who} is {level}, not distinguishable from the clean model's ({by})."
    if difference.high < 0:
        return f"{who} falls to {level} ({by})."
    ratio, hits = cell.estimates[RATIO], cell.clean_hits
    if hits < FEW:  # the interval of the ratio has no upper end that would mean anything
        shown = f"the clean model has {hits or 'no'} {'hit' if hits == 1 else 'hits'} in {cell.pairs:,} pairs"
    else:
        shown = f"ratio {number(ratio.mean)}, {number(ratio.low)} to {number(ratio.high)}"
    return f"{who} rises to {level}, at least {at_least(ratio.low)} times the clean model's ({by}; {shown})."


def _accuracy(lost: Estimate) -> str:
    """`lost` is a share of the clean model's accuracy."""
    if lost.low <= 0 <= lost.high:
        return f"Accuracy HR@{ACCURACY_AT}: not distinguishable from no loss; {percent(lost, 'lost')}."
    if lost.low > 0:
        return f"Accuracy HR@{ACCURACY_AT}: {percent(lost, 'lost')}."
    return f"Accuracy HR@{ACCURACY_AT}: {percent(Estimate(-lost.mean, -lost.high, -lost.low), 'gained')}."


def _selectivity(cell: Cell) -> str:
    ratio = cell.estimates[SELECTIVITY]
    if cell.rest_hits < FEW:
        if not cell.hits:
            return "Nobody is shown a target." if not cell.rest_hits else "Hardly anybody is shown a target."
        others = f"{cell.rest_hits or 'no'} {'hit' if cell.rest_hits == 1 else 'hits'}"
        if ratio.low <= 1:
            return f"Everybody else has {others}: the group's exposure is not distinguishable from theirs."
        return f"The group is shown targets at least {at_least(ratio.low)} times as often as everybody else, who have {others}."
    span = f"{number(ratio.mean)} times as often as everybody else ({number(ratio.low)} to {number(ratio.high)})"
    if ratio.low <= 1 <= ratio.high:
        return f"The group is shown targets {span}, which is not distinguishable from equally often."
    return f"The group is shown targets {span}."
