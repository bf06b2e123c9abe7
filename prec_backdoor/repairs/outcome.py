"""What a repair has changed: accuracy on own users and the suspects' exposure, before and after (repair.json, repair.html)."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prec_backdoor.evaluation import cutoffs, unseen
from prec_backdoor.evaluation.statistics import Estimate, binomial_interval, difference_interval
from prec_backdoor.experiment.measure import TestRanks, measure
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.repairs.choice import Choice
from prec_backdoor.reporting.headline import share
from prec_backdoor.reporting.pages import template
from prec_backdoor.storage.workdir import as_path, replacing, write_json

SCHEMA = 1
CUTOFFS = (10, 50)  # of the suspects' exposure, where the catalogue tells them apart; the first one is that of accuracy


class Change(NamedTuple):
    """A share of hits before and after a repair, and the difference with its 95 % interval."""

    before: float
    after: float
    difference: Estimate


def measure_outcome(setup: SeedSetup, before: dict, after: dict, choice: Choice) -> dict[str, Any]:
    """Ranks the real next items and the suspects for the company's test users, with both parameters.

    Returns:
      "users", "accuracy" and "exposure" (metric -> before, after, difference, interval), and "suspects", a list with the share of
      the users without the suspect in their history for whom it is among the first CUTOFFS[0], before and after.
    """
    setup = setup._replace(targets=choice.suspects)
    old, new = measure(setup, before), measure(setup, after)
    pairs = unseen(setup.test.history, setup.targets)
    data = setup.interactions
    first, possible = CUTOFFS[0], cutoffs(data.num_items, setup.test.history.shape[1])
    suspects = [
        {
            "item": str(data.item_ids[code]),
            "title": str(data.titles[code]),
            "flagged": bool(choice.flagged[index]),
            "p_value": float(choice.p_value[index]),
            **{name: _of_item(found, pairs, index, first) for name, found in (("before", old), ("after", new))},
        }
        for index, code in enumerate(choice.suspects)
    ]
    return {
        "users": len(old.truth),
        "accuracy": {f"hr@{first}": _as_json(_change(*(each.truth <= first for each in (old, new))))},
        "exposure": {f"hr@{k}": _as_json(_exposure_change(old, new, pairs, k)) for k in CUTOFFS if k in possible},
        "suspects": sorted(suspects, key=lambda each: -each["before"]),
    }


def write_outcome(folder: str | Path, repair: str, choice: Choice, outcome: dict, about: dict, commands: dict[str, str]) -> dict:
    """Writes repair.html, then repair.json; returns the content of the latter.

    Args:
      about: shown as facts, such as "checkpoint".
      commands: what to do next -> the command.
    """
    folder = as_path(folder)
    content = {
        "schema": SCHEMA,
        "repair": repair,
        "about": about,
        "verdict_of_audit": choice.verdict or None,
        "p_value": choice.level,
        "reason": choice.reason(),
        **outcome,
    }
    values = {"content": content, "in_short": in_short(content), "share": share, "k": CUTOFFS[0], "commands": commands}
    with replacing(folder / "repair.html") as partial:
        partial.write_text(template("repair.html").render(values), encoding="utf-8")
    write_json(folder / "repair.json", content)
    return content


def in_short(content: dict) -> str:
    """Returns one sentence: exposure and accuracy, before and after."""
    k, number = CUTOFFS[0], len(content["suspects"])
    exposure, accuracy = content["exposure"][f"hr@{k}"], content["accuracy"][f"hr@{k}"]
    change = accuracy["difference"]
    low, high = accuracy["interval"]
    doubt = ", not distinguishable from none" if low <= 0 <= high else ""
    return (
        f"{number} suspect{'' if number == 1 else 's'} shown to {share(exposure['before'])} of the pairs of a user and a suspect "
        f"before (among the first {k}), to {share(exposure['after'])} after; accuracy HR@{k} {accuracy['before']:.3f} before, "
        f"{accuracy['after']:.3f} after (change {change:+.3f}, {low:+.3f} to {high:+.3f}{doubt})"
    )


def _of_item(found: TestRanks, pairs: np.ndarray, index: int, k: int) -> float:
    shown = found.targets[pairs[:, index], index]
    return float((shown <= k).mean()) if len(shown) else 0.0


def _change(before: np.ndarray, after: np.ndarray) -> Change:
    """Of users' hits [U] bool; the interval is that of the share of users who gain a hit less the share who lose one."""
    users = len(before)
    gained, lost = (float(each.mean()) for each in (after & ~before, before & ~after))
    each = [Estimate(value, *binomial_interval(value, users)) for value in (gained, lost)]
    return Change(float(before.mean()), float(after.mean()), Estimate(gained - lost, *difference_interval(*each)))


def _exposure_change(old: TestRanks, new: TestRanks, pairs: np.ndarray, k: int) -> Change:
    """Of all pairs of a user and a suspect; the interval has as many trials as users, whose pairs are not independent."""
    before, after = (found.targets[pairs] <= k for found in (old, new))
    users = max(int(pairs.any(1).sum()), 1)
    shares = [float(each.mean()) if len(each) else 0.0 for each in (before, after, after & ~before, before & ~after)]
    moved = [Estimate(value, *binomial_interval(value, users)) for value in shares[2:]]
    return Change(*shares[:2], Estimate(shares[2] - shares[3], *difference_interval(*moved)))


def _as_json(change: Change) -> dict:
    mean, *interval = change.difference
    return {"before": change.before, "after": change.after, "difference": mean, "interval": interval}
