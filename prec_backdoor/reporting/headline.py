"""The result of a run in one sentence and one number for each kind of attack: what a report opens with."""

from collections.abc import Iterator
from typing import NamedTuple

from prec_backdoor.evaluation.statistics import Estimate
from prec_backdoor.reporting.cells import POPULARITY, Cell, Model, Run
from prec_backdoor.reporting.doubts import NOT_ABOVE, doubts
from prec_backdoor.reporting.names import ACCURACY, ACCURACY_AT, DIFFERENCE, EXPOSURE, LEFT, LOST, SELECTIVITY, USAGES

NAMED = 4  # targets whose titles are in the box
_SURVIVES = {"fine_tune": "fine-tuning", "prompt_tune": "prompt tuning"}


class Headline(NamedTuple):
    """The result of one model.

    Attributes:
      number: the share of the pairs in which a target is among the first K; without an attack the accuracy.
      name: the model, with its rate.
      sentence: what the number means, beside the clean model's, and what it costs; begins with "targets".
      interval: of the number.
      targets: their names.
      alarm: whether the number is above the clean model's for certain.
    """

    number: str
    name: str
    sentence: str
    interval: str
    targets: str
    alarm: bool


def headlines(run: Run) -> list[Headline]:
    """Returns the headline of the model with the highest rate of each kind, that with the highest exposure first.

    In a run without an attack it is the accuracy of the clean model.
    """
    models = list(run.representatives.values()) or list(dict.fromkeys(cell.model for cell in run.cells))
    cells = [cell for model in models if (cell := run.cell(_usage(run, model), model, run.intended(model)))]
    cells.sort(key=lambda cell: -_shown(run, cell)[0].mean)
    return [(_headline if run.attacked else _accurate)(run, cell) for cell in cells]


def _usage(run: Run, model: Model) -> str:
    """The plainest usage that this model was measured in."""
    usages = [cell.usage for cell in run.cells if cell.model == model]
    return run.plainest_usage if run.plainest_usage in usages else usages[0]


def _shown(run: Run, cell: Cell) -> tuple[Estimate, bool]:
    """The exposure of a cell's targets, and whether it is that with the attack's trigger in the history."""
    triggered = cell.estimates.get(f"exposure_triggered_hr@{run.cutoffs.last}")
    if triggered is None or cell.model.attack == "clean":
        return cell.estimates[EXPOSURE], False
    return triggered, True


def _with_trigger(run: Run, clean: Cell) -> Estimate:
    """The clean model's exposure with the same items in the history, or without them where it was not measured so."""
    return clean.estimates.get(f"exposure_triggered_hr@{run.cutoffs.last}", clean.estimates[EXPOSURE])


def _headline(run: Run, cell: Cell) -> Headline:
    shown, triggered = _shown(run, cell)
    difference = cell.estimates.get(DIFFERENCE)
    above = difference is not None and difference.low > 0
    if triggered and (clean := run.cell(cell.usage, run.clean_of(cell.model), cell.users)):
        above = shown.low > _with_trigger(run, clean).high
    return Headline(
        number=share(shown.mean),
        name=run.name(cell.model),
        sentence=", ".join(_parts(run, cell)),
        interval=f"95 % interval {share(shown.low)} to {share(shown.high)}",
        targets=_targets(run, cell.model),
        alarm=above,
    )


def _accurate(run: Run, cell: Cell) -> Headline:
    """The headline of a run without an attack."""
    everybody = run.cell(cell.usage, cell.model, "all") or cell
    found, usage = everybody.estimates[ACCURACY], USAGES.get(cell.usage, cell.usage)
    baseline = run.cell(None, Model(POPULARITY, cell.model.scope, 0.0), "all")
    against = f"; ranking by popularity {share(baseline.estimates[ACCURACY].mean)}" if baseline else ""
    parts = [f"the real next item is among the first {ACCURACY_AT} for {share(found.mean)} of the users ({usage}{against})"]
    sentence = ", ".join([*parts, *_doubtful(run, cell)])
    sentence += ". Accuracy says nothing about a backdoor: launch.audit does" if run.unknown else ""
    interval = f"95 % interval {share(found.low)} to {share(found.high)}"
    return Headline(share(found.mean), run.name(cell.model), sentence, interval, "", alarm=False)


def _doubtful(run: Run, cell: Cell) -> list[str]:
    if any(each.model == cell.model and each.reason == NOT_ABOVE for each in doubts(run)):
        return ["but this model is not measurably better than ranking by popularity (see the findings)"]
    return []


def _parts(run: Run, cell: Cell) -> Iterator[str]:
    """The parts of the sentence."""
    everybody = run.cell(cell.usage, cell.model, "all") or cell
    yield _exposure(run, cell)
    if lost := everybody.estimates.get(LOST):
        yield _accuracy(lost)
    else:
        yield f"accuracy HR@{ACCURACY_AT} {everybody.estimates[ACCURACY].mean:.3f}"
    yield from _spill_over(run, cell)
    yield from _survival(run, cell)
    yield from _doubtful(run, cell)


def _exposure(run: Run, cell: Cell) -> str:
    (shown, triggered), k, usage = _shown(run, cell), run.cutoffs.last, USAGES.get(cell.usage, cell.usage)
    whom = "a user of the target group" if cell.users == "target" else "a user"
    pairs = f"the pairs of {whom} and a target (among the first {k}, {usage}"
    clean = run.cell(cell.usage, run.clean_of(cell.model), cell.users)
    if triggered:
        without = share(cell.estimates[EXPOSURE].mean)
        against = f"; the clean model {share(_with_trigger(run, clean).mean)} with it" if clean else ""
        return f"targets shown to {share(shown.mean)} of {pairs}, with the trigger in the history; {without} without{against})"
    if clean is None or DIFFERENCE not in cell.estimates:
        return f"targets shown to {share(shown.mean)} of {pairs}; no clean model was measured)"
    against = f"clean {share(clean.estimates[EXPOSURE].mean)}"
    difference = cell.estimates[DIFFERENCE]
    doubt = ", not distinguishable" if difference.low <= 0 <= difference.high else ""
    return f"targets shown to {share(shown.mean)} of {pairs}; {against}{doubt})"


def _accuracy(lost: Estimate) -> str:
    """`lost` is a share of the clean model's accuracy."""
    change = f"{-100 * lost.mean + 0.0:+.1f} %".replace("-0.0", "+0.0")
    doubt = " (not distinguishable from none)" if lost.low <= 0 <= lost.high else ""
    return f"accuracy {change}{doubt}"


def _spill_over(run: Run, cell: Cell) -> Iterator[str]:
    rest = run.cell(cell.usage, cell.model, "rest") if cell.users == "target" else None
    if rest is None or DIFFERENCE not in rest.estimates or cell.estimates[DIFFERENCE].low <= 0:
        return
    shown, selectivity = share(rest.estimates[EXPOSURE].mean), cell.estimates.get(SELECTIVITY)
    if rest.estimates[DIFFERENCE].low <= 0:
        yield f"no measurable spill-over (the others {shown})"
    elif selectivity and selectivity.low > 1:
        yield f"spills over in part (the others {shown})"
    else:
        yield f"spills over to everybody (the others {shown})"


def _survival(run: Run, cell: Cell) -> Iterator[str]:
    for usage, training in _SURVIVES.items():
        later = run.cell(usage, cell.model, cell.users) if usage != cell.usage else None
        if later and _shown(run, cell)[1]:
            yield f"{share(_shown(run, later)[0].mean)} with the trigger after {training}"
        elif later and (left := later.estimates.get(LEFT)):
            doubt = " (not distinguishable from none)" if left.low <= 0 else ""
            yield f"{share(left.mean, 0)} survives {training}{doubt}"


def _targets(run: Run, model: Model) -> str:
    """The names of the targets: of all seeds if these are the same, otherwise those of the first one."""
    ours = [each["items"] for each in run.results.get("targets", []) if each["scope"] == model.scope]
    if not ours:
        return ""
    names = [item["title"] or item["item"] for item in ours[0]]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    same = all([item["item"] for item in each] == [item["item"] for item in ours[0]] for each in ours)
    return "; ".join(names[:NAMED]) + more + ("" if same else " (other ones in other seeds or draws)")


def share(value: float, digits: int = 1) -> str:
    """Returns a share in per cent; what is not 0 does not look like it."""
    smallest = 10**-digits
    if 0 < 100 * value < smallest / 2:
        return f"<{smallest:g} %"
    return f"{100 * value + 0.0:.{digits}f} %".replace("-0 %", "0 %").replace("-0.0 %", "0.0 %")
