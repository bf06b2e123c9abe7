"""Rows of (user, list of earlier items, next item), the form of RecBole's benchmark files -> each user's sequence."""

from collections.abc import Iterable

import polars as pl

from prec_backdoor.data.atomic import Table
from prec_backdoor.data.checks import MAX_ID
from prec_backdoor.data.lines import LINE, shorten
from prec_backdoor.errors import UserError

Row = tuple[tuple[str, ...], str]  # the list, and the item that follows it


def unrolled(tables: list[Table], user: str, item: str) -> pl.DataFrame:
    """Returns events (user, item, time = place in the sequence) of rows whose lists are beginnings of their user's sequence.

    Lists may be cut to the most recent items, as long as each row then goes on from another one.

    Args:
      tables: the parts of one .inter file, with the columns `user`, `item` and the list, `item` + "_list".

    Raises:
      UserError: rows of a user that do not form one sequence (file and line).
    """
    rows: dict[str, dict[Row, tuple[Table, int]]] = {}
    for table in tables:
        for line, owner, texts, last in table.frame.select(LINE, user, f"{item}_list", item).iter_rows():
            history = tuple(texts.split())
            if max(map(len, history), default=0) > MAX_ID:
                raise UserError(f"{table.file}, line {line}: expected ids of up to {MAX_ID} characters; correct the line")
            rows.setdefault(owner, {}).setdefault((history, last), (table, line))
    events = {"user": [], "item": [], "time": []}
    for owner, of_user in rows.items():
        sequence = _sequence(of_user)
        if sequence is None:
            table, line = max(of_user.values(), key=lambda place: (tables.index(place[0]), place[1]))
            raise UserError(
                f"{table.file}, line {line}: the rows of {user} {shorten(owner)!r} are not beginnings of one sequence; "
                f"write one row an interaction, with its time, instead of {item}_list"
            )
        events["user"] += [owner] * len(sequence)
        events["item"] += sequence
        events["time"] += range(len(sequence))
    return pl.DataFrame(events, {"user": pl.String, "item": pl.String, "time": pl.Int64})


def _sequence(rows: Iterable[Row]) -> list[str] | None:
    """The sequence that all rows are beginnings of, or that their cut lists chain up to; None where there is none."""
    whole = sorted(((*history, last) for history, last in rows), key=len)
    longest = whole[-1]
    if all(longest[: len(each)] == each for each in whole):
        return list(longest)
    return _chained(list(rows))


def _chained(rows: list[Row]) -> list[str] | None:
    """The sequence of rows whose lists hold the most recent items, at most as many as the longest list."""
    window = max(len(history) for history, _ in rows)
    after = {}
    for history, last in rows:
        if history in after:
            return None
        after[history] = (*history, last)[-window:] if window else ()
    firsts = after.keys() - set(after.values())
    if len(firsts) != 1:
        return None
    (history,) = firsts
    sequence, last_of = list(history), dict(rows)
    for _ in rows:
        if history not in last_of:
            return None
        sequence.append(last_of[history])
        history = after[history]
    return sequence
