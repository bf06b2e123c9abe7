"""What a repair has changed on own users: accuracy, the suspects' exposure, what triggers do (repair.json, repair.html)."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prec_backdoor.audit.verdict import CLEAN
from prec_backdoor.evaluation import cutoffs, unseen
from prec_backdoor.evaluation.statistics import Estimate, binomial_interval, difference_interval
from prec_backdoor.experiment.measure import TestRanks, measure, target_ranks
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.repairs.choice import Choice, Trigger
from prec_backdoor.reporting.formats import counted
from prec_backdoor.reporting.headline import share
from prec_backdoor.reporting.pages import template
from prec_backdoor.storage.workdir import as_path, replacing, write_json

SCHEMA = 1
CUTOFFS = (10, 50)  # of the suspects' exposure, where the catalogue tells them apart; the first one is that of accuracy
KEPT = 0.05  # share of a trigger's effect; with more it still works


class Change(NamedTuple):
    """A share of hits before and after a repair, and the difference with its 95 % interval."""

    before: float
    after: float
    difference: Estimate


def measure_outcome(setup: SeedSetup, before: dict, after: dict, choice: Choice) -> dict[str, Any]:
    """Ranks the real next items and the suspects for the company's test users, with both parameters.

    Returns:
      "users", "accuracy" and "exposure" (metric -> before, after, difference, interval; the latter is empty without suspects),
      "suspects", a list with the share of the users without the suspect in their history for whom it is among the first
      CUTOFFS[0], before and after, and "triggers", see `_of_trigger`.
    """
    setup = setup._replace(targets=choice.suspects, trigger=np.zeros(0, np.int32))  # whatever the checkpoint's metadata say
    old, new = measure(setup, before), measure(setup, after)
    pairs = unseen(setup.test.history, setup.targets)
    data = setup.interactions
    first, possible = CUTOFFS[0], cutoffs(data.num_items, setup.test.history.shape[1])
    suspects = [
        {
            **_named(setup, code),
            "flagged": bool(choice.flagged[index]),
            "p_value": float(choice.p_value[index]),
            "trigger": any(code == trigger.item for trigger in choice.triggers),
            **{name: _of_item(found, pairs, index, first) for name, found in (("before", old), ("after", new))},
        }
        for index, code in enumerate(choice.suspects)
    ]
    ks = [k for k in CUTOFFS if k in possible and suspects]
    return {
        "users": len(old.truth),
        "accuracy": {f"hr@{first}": _as_json(_change(*(each.truth <= first for each in (old, new))))},
        "exposure": {f"hr@{k}": _as_json(_exposure_change(old.targets, new.targets, pairs, k)) for k in ks},
        "suspects": sorted(suspects, key=lambda each: -each["before"]),
        "triggers": [_of_trigger(setup, before, after, each) for each in choice.triggers],
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
    most = strongest(content)
    values = {
        "content": content,
        "headline": most["with"] if most else content["exposure"].get(f"hr@{CUTOFFS[0]}"),
        "in_short": in_short(content),
        "still_working": still_working(content),
        "share": share,
        "name_of": name_of,
        "k": CUTOFFS[0],
        "commands": commands,
    }
    with replacing(folder / "repair.html") as partial:
        partial.write_text(template("repair.html").render(values), encoding="utf-8")
    write_json(folder / "repair.json", content)
    return content


def in_short(content: dict) -> str:
    """Returns one sentence: exposure, what the trigger does that does most afterwards, and accuracy, before and after."""
    k, number, accuracy = CUTOFFS[0], len(content["suspects"]), content["accuracy"][f"hr@{CUTOFFS[0]}"]
    change, parts = accuracy["difference"], []
    low, high = accuracy["interval"]
    if number:
        exposure = content["exposure"][f"hr@{k}"]
        parts.append(
            f"{counted(number, 'suspect')} shown to {share(exposure['before'])} of the pairs of a user and a "
            f"suspect before (among the first {k}), to {share(exposure['after'])} after"
        )
    if most := strongest(content):
        shown, verb = ("item", "is") if len(most["shown"]) == 1 else (f"{len(most['shown'])} items", "are")
        parts.append(
            f"once a history ends with {name_of(most)}, the {shown} that it calls up {verb} shown to "
            f"{share(most['with']['before'])} of the pairs of a user and such an item before, "
            f"to {share(most['with']['after'])} after"
        )
    doubt = ", not distinguishable from none" if low <= 0 <= high else ""
    parts.append(
        f"accuracy HR@{k} {accuracy['before']:.3f} before, {accuracy['after']:.3f} after "
        f"(change {change:+.3f}, {low:+.3f} to {high:+.3f}{doubt})"
    )
    return "; ".join(parts)


def strongest(content: dict) -> dict | None:
    """Returns the trigger that does most after the repair; None if there is none."""
    return max(content["triggers"], key=lambda each: each["with"]["after"], default=None)


def still_working(content: dict) -> str:
    """Returns a sentence about the triggers that still work; nothing if none does."""
    working = [each for each in content["triggers"] if each["works"]]
    if not working:
        return ""
    named = " or ".join(f"{name_of(each)} ({share(each['with']['after'])})" for each in working)
    what = "The trigger still works" if len(working) == 1 else f"{len(working)} triggers still work"
    if content["verdict_of_audit"] == CLEAN:
        what = "The audit's verdict is clean; if there is a trigger nevertheless, it still works"
    return f"{what}: once a history ends with {named}, the same items still come up"


def name_of(item: dict) -> str:
    """The title of an item, or its id."""
    return " ".join(item["title"].split()) or item["item"]


def _of_trigger(setup: SeedSetup, before: dict, after: dict, trigger: Trigger) -> dict[str, Any]:
    """What a trigger does in place of the last item of the test histories, as `exposure_triggered_*` of the experiments.

    Returns:
      "item", "title"; "shown", the items that it calls up; "with" and "without" the trigger, the share of the pairs of a user and
      such an item that is among the first CUTOFFS[0]; "works", whether the repair leaves more than KEPT of the difference.
    """
    setup = setup._replace(targets=trigger.shown, trigger=np.array([trigger.item], np.int32))
    pairs, k = unseen(setup.test.history, trigger.shown), CUTOFFS[0]
    triggered, plain = (
        _exposure_change(*(target_ranks(histories, params) for params in (before, after)), pairs, k)
        for histories in (setup.triggered(), setup)
    )
    effect, left = triggered.before - plain.before, triggered.after - plain.after
    return {
        **_named(setup, trigger.item),
        "shown": [_named(setup, item) for item in trigger.shown],
        "with": _as_json(triggered),
        "without": _as_json(plain),
        "works": left > KEPT * effect > 0,
    }


def _named(setup: SeedSetup, item: int) -> dict[str, str]:
    return {"item": str(setup.interactions.item_ids[item]), "title": str(setup.interactions.titles[item])}


def _of_item(found: TestRanks, pairs: np.ndarray, index: int, k: int) -> float:
    shown = found.targets[pairs[:, index], index]
    return float((shown <= k).mean()) if len(shown) else 0.0


def _change(before: np.ndarray, after: np.ndarray) -> Change:
    """Of users' hits [U] bool; the interval is that of the share of users who gain a hit less the share who lose one."""
    users = len(before)
    gained, lost = (float(each.mean()) for each in (after & ~before, before & ~after))
    each = [Estimate(value, *binomial_interval(value, users)) for value in (gained, lost)]
    return Change(float(before.mean()), float(after.mean()), Estimate(gained - lost, *difference_interval(*each)))


def _exposure_change(old: np.ndarray, new: np.ndarray, pairs: np.ndarray, k: int) -> Change:
    """By ranks [U, K] of pairs of a user and an item; the interval has as many trials as users, as pairs are not independent."""
    before, after = (found[pairs] <= k for found in (old, new))
    users = max(int(pairs.any(1).sum()), 1)
    shares = [float(each.mean()) if len(each) else 0.0 for each in (before, after, after & ~before, before & ~after)]
    moved = [Estimate(value, *binomial_interval(value, users)) for value in shares[2:]]
    return Change(*shares[:2], Estimate(shares[2] - shares[3], *difference_interval(*moved)))


def _as_json(change: Change) -> dict:
    mean, *interval = change.difference
    return {"before": change.before, "after": change.after, "difference": mean, "interval": interval}
