"""Models that did not learn: what an attack does to them says nothing of the attack."""

from typing import NamedTuple

from prec_backdoor.reporting.cells import POPULARITY, Model, Run
from prec_backdoor.reporting.curves import model_folder, recorded
from prec_backdoor.reporting.formats import signed
from prec_backdoor.reporting.names import ABOVE_POPULARITY, RANKING, USAGES

EARLY = 2  # validation hardly improved in a pre-training whose best epoch is not after this one
NOT_ABOVE, STOPPED = "not above popularity", "best epoch among the first"
_MEANING = {
    STOPPED: "Best pre-training epoch among the first: the model has hardly learned, train it longer or with another step size.",
    NOT_ABOVE: f"{RANKING.upper()} not measurably above that of ranking by popularity: such a model shows nothing of an attack.",
}


class Doubt(NamedTuple):
    """A reason why a model should not be judged.

    Attributes:
      usage: in which usage; None stands for all.
      reason: NOT_ABOVE or STOPPED.
      figures: which model, and by how much.
    """

    usage: str | None
    model: Model
    reason: str
    figures: str


def doubts(run: Run) -> list[Doubt]:
    """Returns the doubts about all models of a run, in the order of its cells."""
    records, found = recorded(run, "pretrain"), []
    for model in dict.fromkeys(cell.model for cell in run.cells):
        if figures := _stopped(run, model, records):
            found.append(Doubt(None, model, STOPPED, f"{run.name(model)} {figures}"))
        for usage in run.usages:
            if figures := _not_above(run, usage, model):
                found.append(Doubt(usage, model, NOT_ABOVE, f"{run.name(model)}, {USAGES.get(usage, usage)}: {figures}"))
    return found


def in_sentences(found: list[Doubt]) -> list[str]:
    """Returns a line for each reason, with all models that it holds for."""
    of_reason = {reason: [each.figures for each in found if each.reason == reason] for reason in _MEANING}
    return [f"{_MEANING[reason]} {'; '.join(figures)}." for reason, figures in of_reason.items() if figures]


def reasons(found: list[Doubt], usage: str | None, model: Model) -> str:
    """Returns the reasons for one model in one usage; empty if there are none."""
    return ", ".join(each.reason for each in found if each.model == model and each.usage in (None, usage))


def _not_above(run: Run, usage: str, model: Model) -> str:
    cell, baseline = run.cell(usage, model, "all"), run.cell(None, Model(POPULARITY, model.scope, 0.0), "all")
    above = cell and cell.estimates.get(ABOVE_POPULARITY)
    if not above or above.low > 0:
        return ""
    means = [each.estimates[RANKING].mean for each in (cell, baseline)]
    difference, low, high = signed(above)
    return f"{means[0]:.3f} against {means[1]:.3f} (difference {difference}, {low} to {high})"


def _stopped(run: Run, model: Model, records: dict[str, dict[int, dict]]) -> str:
    rows = next(cell.rows for cell in run.cells if cell.model == model)
    name, early = f"validation_{RANKING}", []
    for folder, seed in dict.fromkeys((model_folder(row), row["seed"]) for row in rows):
        scored = [each for each in records.get(folder, {}).values() if name in each]
        if scored:
            best = max(scored, key=lambda each: (each[name], -each["epoch"]))["epoch"]
            if best <= EARLY:
                early.append(f"{best} of {max(each['epoch'] for each in scored)} (seed {seed})")
    return ", ".join(early)
