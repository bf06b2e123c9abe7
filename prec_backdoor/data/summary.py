"""What was read, for people: one line, or an overview of a company's own data."""

import numpy as np

from prec_backdoor.data.interactions import Interactions

MOST_SHOWN = 6  # names in a list
_BORDERS = (1, 2, 3, 5, 10, 20, 50, 100, 200)  # of the histogram of lengths: where a bar begins
_NOT_DROPPED = ("rows read", "users without a profile", "items without features")  # counts
_SKIPPED = "skipped, "  # begins the counts of bad rows, which go on with the file and what was expected there
_BAR = 40  # characters of the longest bar


def one_line(interactions: Interactions) -> str:
    """Returns name, users, items and interactions, the users with profiles, what was used and what was left out."""
    users = f"{interactions.num_users:,}"
    parts = [f"{users} users, {interactions.num_items:,} items, {len(interactions.items):,} interactions"]
    parts.append(_profiles(interactions))
    parts += [f"{what} {text}" for what, text in interactions.notes.items()]
    parts += [_counted(what, count) for what, count in interactions.counts.items() if what.startswith(_SKIPPED)]
    return " ".join(f"{interactions.name}: {'; '.join(parts)}".split())


def overview(interactions: Interactions) -> str:
    """Returns a table: counts, notes (columns, order and times), profiles, what was dropped, and a histogram of lengths."""
    lengths = interactions.lengths()
    rows = {
        "users": f"{interactions.num_users:,} ({(lengths >= 3).sum():,} with 3 interactions or more, which is what a test needs)",
        "items": f"{interactions.num_items:,}",
        "interactions": f"{len(interactions.items):,}",
        **interactions.notes,
    }
    if interactions.notes.get("order", "").endswith(")"):
        rows["order"] += "; equal times: as in the file"
    rows["profiles"] = _profiles(interactions).removeprefix("profiles of ").replace("no profiles", "none")
    dropped = [_counted(what, count) for what, count in interactions.counts.items() if count and what not in _NOT_DROPPED]
    rows["dropped"] = "; ".join(dropped) or "nothing"
    table = "\n".join(f"  {what:<14} {text}" for what, text in rows.items())
    return f"{interactions.name}\n{table}\n  users by number of interactions\n{histogram(lengths)}"


def histogram(lengths: np.ndarray) -> str:
    """Returns the users by number of interactions as lines of text with bars."""
    lengths = lengths[lengths > 0]
    counts = np.bincount(np.searchsorted(_BORDERS, lengths, "right") - 1, minlength=len(_BORDERS))
    ends = (*(border - 1 for border in _BORDERS[1:]), None)
    lines = []
    for first, last, count in zip(_BORDERS, ends, counts.tolist(), strict=True):
        name = f"{first}+" if last is None else f"{first}" if first == last else f"{first}-{last}"
        bar = "#" * max(round(_BAR * count / counts.max()), min(count, 1))
        lines.append(f"    {name:>7} {count:>10,} {bar}".rstrip())
    return "\n".join(lines[: int(np.flatnonzero(counts).max(initial=0)) + 1])


def _counted(what: str, count: int) -> str:
    """Returns a count for people."""
    rows = "row" if count == 1 else "rows"
    return f"{count:,} {rows} skipped ({what.removeprefix(_SKIPPED)})" if what.startswith(_SKIPPED) else f"{count:,} {what}"


def _profiles(interactions: Interactions) -> str:
    """Returns how many users have profiles, and the attributes."""
    if not interactions.attributes:
        return "no profiles"
    without = interactions.counts.get("users without a profile", 0)
    return f"profiles of {interactions.num_users - without:,} users ({listed(interactions.attributes)})"


def listed(names) -> str:
    """Returns names joined by commas, the first six and how many more."""
    names = list(names)
    more = [f"and {len(names) - MOST_SHOWN} more"] if len(names) > MOST_SHOWN else []
    return ", ".join(names[:MOST_SHOWN] + more)
