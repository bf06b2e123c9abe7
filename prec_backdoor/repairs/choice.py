"""Which items a repair takes as suspects, and why they are more, or others, than those that the audit flagged.

An item that calls up others from the end of a history is one of them: whatever takes away its effect does so for targets, too,
that are not suspects.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prec_backdoor.audit.reading import AuditFile, read_audit
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.reporting.formats import counted


class Trigger(NamedTuple):
    """An item that calls up others from the end of a history: its code, and theirs [N]."""

    item: int
    shown: np.ndarray


class Choice(NamedTuple):
    """The suspects of a repair.

    Attributes:
      suspects: [N] item codes.
      flagged: [N] bool, whether the audit flagged them.
      p_value: [N] in the audit.
      level: p-value up to which an item, and what an item does at the end of a history, is suspect.
      items: number of items that the audit judged.
      verdict: of the audit, such as clean or suspicious; empty if it does not say.
      triggers: what was found to call up others from the end of a history.
      flagged_in_all: number of items that the audit flagged, whatever their p-value.
    """

    suspects: np.ndarray
    flagged: np.ndarray
    p_value: np.ndarray
    level: float
    items: int
    verdict: str
    triggers: tuple[Trigger, ...] = ()
    flagged_in_all: int = 0

    def reason(self) -> str:
        """Returns why these items are the suspects, in a sentence or two."""
        if not self.items:
            return "No audit was given, so that there are no suspects whose exposure could be measured."
        beside = int((~self._unusual()).sum())
        more = "one more item calls" if beside == 1 else f"{beside} more items call"
        return self._of_unusual() + (f" Beside them, {more} up others from the end of a history." if beside else "")

    def _unusual(self) -> np.ndarray:
        """[N] whether an item is a suspect by its own p-value."""
        return self.p_value <= self.level

    def _of_unusual(self) -> str:
        number, flagged = int(self._unusual().sum()), int(self.flagged[self._unusual()].sum())
        lucky = f"{self.level * self.items:,.0f}"
        by_chance = f"{lucky} of {self.items:,} items {'has' if lucky == '1' else 'have'} such a p-value by chance"
        if self.verdict == "clean":
            return (
                f"The audit's verdict is {self.verdict}: {counted(flagged, 'item') if flagged else 'no items'} flagged. The "
                f"{'most unusual item' if number == 1 else f'{number} most unusual items'} (p-value of at most {self.level:g}; "
                f"{by_chance}) {'is' if number == 1 else 'are'} repaired as a precaution"
                + ("." if self.triggers else "; nothing needs it.")
            )
        if flagged == number:
            return self._all_flagged(number)
        have = "has" if number - flagged == 1 else "have"
        others = f"{flagged} of them; the other {number - flagged} {have}" if flagged else f"none of them; {number} {have}"
        return (
            f"The audit flagged {others} a p-value of at most {self.level:g} ({by_chance}). To repair a clean item costs little, "
            "to miss a target leaves it exposed; --p_value takes fewer or more."
        )

    def _all_flagged(self, number: int) -> str:
        """Of suspects that are all flagged; with a high false discovery rate an audit flags items of higher p-values, too."""
        if self.flagged_in_all > number:
            are = "It is one" if number == 1 else f"They are {number}"
            return f"{are} of the {self.flagged_in_all} items that the audit flagged; --p_value takes more of them."
        return "It is the item that the audit flagged." if number == 1 else f"They are the {number} items that the audit flagged."


def no_suspects(level: float) -> Choice:
    """The choice where there is no audit."""
    return Choice(np.zeros(0, np.int32), np.zeros(0, bool), np.zeros(0), level, 0, "")


def choose_suspects(folder: str | Path, interactions: Interactions, digest: str, level: float) -> Choice:
    """Reads the audit in `folder` of the checkpoint with content hash `digest`; what is not in the catalogue is left out.

    Raises:
      UserError: `folder` has no audit of that checkpoint, or no item has a p-value of at most `level`, or all of them have.
    """
    audit = read_audit(folder, digest)
    ids = interactions.item_ids
    codes = {raw: code for code, raw in enumerate(ids.tolist()) if raw in audit.p_value and code}
    unusual = [code for raw, code in codes.items() if audit.p_value[raw] <= level]
    if not unusual:
        raise UserError(f"{audit.path}: no item has a p-value of at most {level:g}; nothing to repair, or raise --p_value")
    triggers = tuple(_triggers(audit, codes, level))
    suspects = np.union1d(unusual, [trigger.item for trigger in triggers]).astype(np.int32)
    if len(suspects) == interactions.num_items:
        raise UserError(f"{audit.path}: all {len(suspects):,} items are suspects, which leaves none to trust; lower --p_value")
    return Choice(
        suspects=suspects,
        flagged=np.isin(ids[suspects], list(audit.flagged)),
        p_value=np.array([audit.p_value[raw] for raw in ids[suspects].tolist()]),
        level=level,
        items=len(audit.p_value),
        verdict=audit.verdict,
        triggers=triggers,
        flagged_in_all=len(audit.flagged.intersection(codes)),
    )


def _triggers(audit: AuditFile, codes: dict[str, int], level: float) -> Iterator[Trigger]:
    first = {}
    for each in audit.last_items:
        first.setdefault(each.item, each)
    for item, p_value, shown in first.values():
        known = [codes[each] for each in dict.fromkeys(shown) if each in codes and each != item]
        if p_value <= level and known and item in codes:
            yield Trigger(codes[item], np.array(known, np.int32))
