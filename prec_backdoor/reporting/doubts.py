"""Models that did not learn: what an attack does to them says nothing of the attack."""

from typing import NamedTuple

from prec_backdoor.reporting.cells import POPULARITY, Model, Run
from prec_backdoor.reporting.curves import model_folder, recorded
from prec_backdoor.reporting.formats import signed
from prec_backdoor.reporting.names import ABOVE_POPULARITY, RANKING, USAGES

EARLY = 2  # a best epoch up to this one means that validation never improved


class Doubt(NamedTuple):
    """A reason why a model should not be judged; `usage` is None if it holds for all usages.

    Attributes:
      short: for a table.
      text: a sentence.
    """

    usage: str | None
    model: Model
    short: str
    text: str


def doubts(run: Run) -> list[Doubt]:
    """Returns the doubts about all models of a run, in the order of its cells."""
    found = []
    for model in dict.fromkeys(cell.model for cell in run.cells):
        if text := _early(run, model):
            found.append(Doubt(None, model, "best epoch among the first", f"{run.name(model)}: {text}"))
        for usage in run.usages:
            if text := _not_above_popularity(run, usage, model):
                text = f"{run.name(model)}, {USAGES.get(usage, usage)}: {text}"
                found.append(Doubt(usage, model, "not above popularity", text))
    return found


def doubts_about(found: list[Doubt], usage: str | None, model: Model) -> str:
    """Returns the short forms for one model in one usage; empty if there are none."""
    return ", ".join(each.short for each in found if each.model == model and each.usage in (None, usage))


def _not_above_popularity(run: Run, usage: str, model: Model) -> str:
    cell, baseline = run.cell(usage, model, "all"), run.cell(None, Model(POPULARITY, model.scope, 0.0), "all")
    above = cell and cell.estimates.get(ABOVE_POPULARITY)
    if not above or above.low > 0:
        return ""
    means = [each.estimates[RANKING].mean for each in (cell, baseline)]
    verdict = "ranks no better than" if above.mean <= 0 else "is not distinguishable from"
    difference, low, high = signed(above)
    return (
        f"{verdict} a ranking by popularity ({RANKING.upper()} {means[0]:.3f} against {means[1]:.3f}; difference {difference}, "
        f"{low} to {high}). A model that has not learned shows nothing of an attack."
    )


def _early(run: Run, model: Model) -> str:
    rows = next(cell.rows for cell in run.cells if cell.model == model)
    records, early = recorded(run, "pretrain"), []
    for folder, seed in dict.fromkeys((model_folder(row), row["seed"]) for row in rows):
        scored = [each for each in records.get(folder, {}).values() if f"validation_{RANKING}" in each]
        if scored:
            best = max(scored, key=lambda each: (each[f"validation_{RANKING}"], -each["epoch"]))
            if best["epoch"] <= EARLY:
                early.append(f"{best['epoch']} of {max(each['epoch'] for each in scored)} (seed {seed})")
    if not early:
        return ""
    return f"the best pre-training epoch is {', '.join(early)}. The model has hardly learned; train it longer or in other steps."
