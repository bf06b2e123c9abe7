"""Tables of .inter files -> events in the order of time."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from prec_backdoor.data import checks, times
from prec_backdoor.data.atomic import Table, key_column, named_column
from prec_backdoor.data.columns import is_moment, is_time_like, words
from prec_backdoor.data.feedback import rated
from prec_backdoor.data.histories import unrolled
from prec_backdoor.data.lines import shorten
from prec_backdoor.errors import UserError

STANDARD_TIME = "timestamp"  # RecBole's
_LISTS = {"list", "history", "sequence", "seq"}


class Events(NamedTuple):
    """The interactions of a table.

    Attributes:
      frame: columns user, item (texts) and time.
      counts: what was counted.
      notes: for people, what was used (see `Interactions.notes`).
      unit: that of the times (see `times.unit_of`); blank where the order is that of the rows or of lists.
    """

    frame: pl.DataFrame
    counts: dict[str, int]
    notes: dict[str, str]
    unit: str = ""


def read_events(tables: list[Table], columns: Mapping[str, str], min_rating: float | None) -> Events:
    """Returns the interactions of the parts of an .inter file, in their order.

    Args:
      columns: role -> column, see `columns.ROLES`.
      min_rating: see `feedback.rated`.

    Raises:
      UserError: a missing column, a bad id or time (file and line), no certain column of times, zeros that may be no
        interactions, lists of items that are not read.
    """
    user, item = (key_column(tables[0], role, columns) for role in ("user", "item"))
    rows = sum(table.frame.height for table in tables)
    tables, required = rated(tables, columns, min_rating)
    kept = sum(table.frame.height for table in tables)
    if not kept:
        raise UserError(f"{tables[0].file}: none of its {rows} rows has {required}; lower --min_rating")
    counts = {"rows read": rows, "rows below --min_rating": rows - kept} if required else {}
    notes = {"counted": required} if required else {}
    tables = [table._replace(frame=checks.ids(checks.ids(table.frame, table.file, user), table.file, item)) for table in tables]
    unit = ""
    if f"{item}_list" in tables[0].types:
        frame, notes["order"] = unrolled(tables, user, item), f"{item}_list"
    else:
        _refuse_lists(tables[0], item)
        frame, notes["order"], unit = _in_time(tables, user, item, columns)
    frame = frame.with_columns(checks.canonical_ids(frame[column], tables[0].file) for column in ("user", "item"))
    return Events(frame, counts, notes, unit)


def _refuse_lists(table: Table, item: str) -> None:
    for name, kind in table.types.items():
        if kind == "token_seq" and _LISTS & set(words(name)):
            raise UserError(
                f"{table.file.header}: the lists in column {name} are not read; rename it to {item}_list if they are the items "
                "before each row's, or leave the column out"
            )


def _in_time(tables: list[Table], user: str, item: str, columns: Mapping[str, str]) -> tuple[pl.DataFrame, str, str]:
    """The events, for people what their order is, and the unit of their times."""
    column = time_column(tables, (user, item), columns)
    if column is None:
        chosen = pl.concat(table.frame.select(user=user, item=item) for table in tables)
        return chosen.with_columns(time=pl.lit(0)), "rows of the file", ""
    form = times.form_of(_texts(tables, column))
    frames = [times.check(table.frame, table.file, column, form) for table in tables]
    frame = pl.concat(frame.select(user=user, item=item, time=column) for frame in frames)
    frame = frame.with_columns(times.exact(frame["time"], form))
    try:
        unit = times.unit_of(frame["time"], form)
        return frame, f"{column} ({unit})", unit
    except ValueError as error:
        raise UserError(f"{tables[0].file}: column {column} mixes {error}; write all times in one unit") from error


def _texts(tables: list[Table], column: str) -> pl.Series:
    return pl.concat(table.frame[column] for table in tables)


def time_column(tables: list[Table], ids: tuple[str, str], columns: Mapping[str, str]) -> str | None:
    """Returns the column of times: the one named, RecBole's, or the only one that names or values show to be one.

    Raises:
      UserError: several columns may be the one, or one that looks like a duration or an hour of the day.
    """
    first = tables[0]
    if "time" in columns:
        return named_column(first, "time", columns) or None
    if STANDARD_TIME in first.types:
        return STANDARD_TIME
    found = [name for name, kind in first.types.items() if name not in ids and _may_be_time(_texts(tables, name), kind)]
    if not found:
        found = [name for name, kind in first.types.items() if name not in ids and _may_be_dates(_texts(tables, name), kind)]
    if not found:
        return None
    remedy = f"name the right one by --columns=time={found[0]}, or keep the order of the rows by --columns=time="
    if len(found) > 1:
        raise UserError(f"{first.file.header}: several columns may be times: {shorten(', '.join(found), 240)}; {remedy}")
    texts = _texts(tables, found[0])
    value = shorten(str(first.frame[found[0]][0]) if first.frame.height else "")
    if texts.dtype == pl.String and not times.any_read(texts) and not is_moment(found[0]):
        where = f"{first.file.header}: column {found[0]}"
        raise UserError(f"{where} may be times, but {value!r} is neither a number nor {times.READ}; {times.REMEDY}")
    if not _is_certain(texts):
        raise UserError(f"{first.file.header}: column {found[0]} may be times, but not for certain ({value!r}); {remedy}")
    return found[0]


def _may_be_dates(texts: pl.Series, kind: str) -> bool:
    """Whether most values of a column look like dates, read or not."""
    return kind == "token" and texts.dtype == pl.String and times.share_of_dates(texts) > 0.5


def _may_be_time(texts: pl.Series, kind: str) -> bool:
    """Whether the name of a column or most of its values look like times."""
    if kind not in ("token", "float") or words(texts.name)[-1:] == ["id"]:
        return False
    return is_time_like(texts.name) or times.share_of_moments(texts) > 0.5


def _is_certain(texts: pl.Series) -> bool:
    """Whether the name of a column says that it has times of events, or its values do: numbers only under a time-like name."""
    if is_moment(texts.name):
        return True
    return times.share_of_moments(texts) == 1 and (is_time_like(texts.name) or times.form_of(texts) != times.NUMBER)
