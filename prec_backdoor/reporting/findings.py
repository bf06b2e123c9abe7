"""What a run shows, in sentences that claim no more than the intervals support."""

from collections.abc import Iterator

from prec_backdoor.reporting.cells import Cell, Run
from prec_backdoor.reporting.formats import at_least, number, percent
from prec_backdoor.reporting.names import ACCURACY_AT, EXPOSURE, EXPOSURE_AT, LEFT, LIFT, LOST, SEGMENTS, SELECTIVITY, USAGES
from prec_backdoor.reporting.samples import Estimate

FEW_SEEDS = 3


def findings(run: Run) -> dict[str, list[tuple[str, str]]]:
    """Returns usage -> (model, sentences about it), for each attacked model or, in a run without one, for the clean model."""
    shown = run.attacked or list(dict.fromkeys(cell.model for cell in run.cells))
    found: dict[str, list[tuple[str, str]]] = {}
    for usage in run.usages:
        for model in shown:
            cell, everybody = run.cell(usage, model, run.intended(model)), run.cell(usage, model, "all")
            if cell and everybody:
                text = " ".join(_sentences(cell, everybody, bool(run.attacked)))
                found.setdefault(USAGES.get(usage, usage), []).append((run.name(model), text))
    return found


def in_short(run: Run) -> dict[str, dict[str, str]]:
    """Returns kind of attack -> usage -> in how many of its models exposure rises and accuracy is lost."""
    found: dict[str, dict[str, str]] = {}
    for usage in run.usages:
        for kind in run.representatives:
            models = [model for model in run.attacked if model.kind == kind]
            cells = [cell for model in models if (cell := run.cell(usage, model, run.intended(model))) and LIFT in cell.estimates]
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


def _counts(cells: list[Cell], lost: list[Estimate]) -> str:
    risen = [cell for cell in cells if cell.estimates[LIFT].low > 1]
    text = f"exposure measurably rises in {len(risen)} of {len(cells)} models"
    if surest := max((cell for cell in risen if cell.clean_hits), key=lambda cell: cell.estimates[LIFT].low, default=None):
        text += f" (most at rate {surest.model.rates}: at least {at_least(surest.estimates[LIFT].low)} times the clean model's)"
    elif risen:
        text += " (the clean model shows none)"
    if lost:
        text += f"; accuracy is measurably lost in {sum(each.low > 0 for each in lost)} of {len(lost)}"
    return f"{text}."


def _sentences(cell: Cell, everybody: Cell, attacked: bool) -> Iterator[str]:
    yield _exposure(cell)
    if lost := everybody.estimates.get(LOST):
        yield _accuracy(lost)
    if attacked and SELECTIVITY in cell.estimates:
        yield _selectivity(cell)
    if left := cell.estimates.get(LEFT):
        yield f"Of the exposure that the attack adds zero-shot, {percent(left)} is left."


def _exposure(cell: Cell) -> str:
    exposure, lift = cell.estimates[EXPOSURE], cell.estimates.get(LIFT)
    segment = SEGMENTS[cell.users]
    who = f"{segment[0].upper()}{segment[1:]}: exposure HR@{EXPOSURE_AT}"
    level = f"{exposure.mean:.3f} ({exposure.low:.3f} to {exposure.high:.3f})"
    if lift is None:
        return f"{who} is {level}."
    lifted = f"lift@{EXPOSURE_AT} {number(lift.mean)}, {number(lift.low)} to {number(lift.high)}"
    if lift.low <= 1 <= lift.high:
        return f"{who} is {level}, not distinguishable from the clean model's ({lifted})."
    if lift.high < 1:
        return f"{who} falls to {level} ({lifted})."
    if not cell.clean_hits:  # there is no ratio to a rate of zero
        return f"{who} rises from none in {cell.pairs:,} pairs to {level}; {lifted}, one hit added to either model's."
    return f"{who} rises to {level}, at least {at_least(lift.low)} times the clean model's ({lifted})."


def _accuracy(lost: Estimate) -> str:
    """`lost` is a share of the clean model's accuracy."""
    if lost.low <= 0 <= lost.high:
        return f"Accuracy HR@{ACCURACY_AT}: not distinguishable from no loss; {percent(lost, 'lost')}."
    if lost.low > 0:
        return f"Accuracy HR@{ACCURACY_AT}: {percent(lost, 'lost')}."
    return f"Accuracy HR@{ACCURACY_AT}: {percent(Estimate(-lost.mean, -lost.high, -lost.low), 'gained')}."


def _selectivity(cell: Cell) -> str:
    ratio = cell.estimates[SELECTIVITY]
    if not cell.rest_hits:
        if not cell.hits:
            return "Nobody is shown a target."
        bound = at_least(ratio.mean)
        return f"Nobody else is shown a target; the group's exposure is {bound} times what one hit there would be."
    span = f"{number(ratio.mean)} times as often as everybody else ({number(ratio.low)} to {number(ratio.high)})"
    if ratio.low <= 1 <= ratio.high:
        return f"The group is shown targets {span}, which is not distinguishable from equally often."
    return f"The group is shown targets {span}."
