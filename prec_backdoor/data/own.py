"""A company's own data: a table of interactions and, if there are, of profiles and of the catalogue -> Interactions."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from prec_backdoor.data import checks, times
from prec_backdoor.data.atomic import Table, named_column
from prec_backdoor.data.attributes import read_attributes
from prec_backdoor.data.categories import read_features
from prec_backdoor.data.columns import check_columns, is_feedback, usual_columns
from prec_backdoor.data.events import Events, read_events, time_column
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.lines import shorten
from prec_backdoor.data.summary import listed
from prec_backdoor.data.table_files import Source, open_frame, open_table
from prec_backdoor.data.tables import rated_name, to_interactions
from prec_backdoor.errors import UserError

_COLUMNS = "columns"  # the note that only own data have
REPEATED = "repeated rows (same user, item and time)"


def read_own(
    interactions: str | Path,
    columns: Mapping[str, str] | None = None,
    profiles: str | Path | None = None,
    catalogue: str | Path | None = None,
    min_rating: float | None = None,
    skipped: Counter | None = None,
) -> Interactions:
    """Returns the dataset of a file of interactions, or the one in a folder that launch.prepare_data wrote.

    A file has a row an interaction; see `table_files.open_table` for its forms. A user's interactions are ordered by time, equal
    times by the order of the rows; without a column of times the rows are in order. Of rows with the same user, item and time
    the first counts. `counts` and `notes` say what was used and what was dropped.

    Args:
      columns: role -> column (see `columns.ROLES`), for those that are not found by usual names such as user_id and product_id.
      profiles: a file with a row a user; its other columns are attributes, see `attributes.read_attributes`.
      catalogue: a file with a row an item, with a title and a category, see `categories.read_features`.
      min_rating: minimum rating of an interaction; None takes all rows.
      skipped: see `text_files.File`.

    Raises:
      UserError: a missing, malformed or damaged file, a column that is missing or not certain, a wrong value (with its line).
    """
    path = Path(interactions)
    if (path / "dataset.json").exists():
        if columns or profiles or catalogue or min_rating is not None:
            raise UserError(
                f"{path}: is prepared; leave out --columns, --profiles, --catalogue, --min_rating, or give the raw file"
            )
        return Interactions.load(path)
    sources = [open_table(given, skipped) if given else None for given in (path, profiles, catalogue)]
    return _read(path.name.partition(".")[0] or "own", sources, check_columns(columns), min_rating)


def from_frame(
    frame: Any,
    columns: Mapping[str, str] | None = None,
    profiles: Any = None,
    catalogue: Any = None,
    min_rating: float | None = None,
    name: str = "frame",
) -> Interactions:
    """Returns the dataset of frames of polars or pandas, or of columns by name (a dict of arrays); otherwise as `read_own`.

    Args:
      name: of the dataset.
    """
    more = {f"{name} (profiles)": profiles, f"{name} (catalogue)": catalogue}
    sources = [None if given is None else open_frame(given, called) for called, given in more.items()]
    return _read(name, [open_frame(frame, name), *sources], check_columns(columns), min_rating)


def is_own(interactions: Interactions) -> bool:
    """Returns whether a dataset was read by `read_own` or `from_frame`, also if it was prepared since."""
    return _COLUMNS in interactions.notes


def _read(name: str, sources: list[Source | None], columns: dict[str, str], min_rating: float | None) -> Interactions:
    main, profiles, catalogue = sources
    for role in ("category", "title"):
        if role in columns and catalogue is None:
            raise UserError(f"--columns={role}={columns[role]}: is a column of the catalogue; give --catalogue=FILE too")
    events = _events(main, columns, min_rating)
    counts, notes = events.counts, events.notes
    users, items, left_out = None, None, {}
    if profiles is not None:
        table = profiles.table()
        users, left_out = read_attributes(table, columns | {"user": _id_column(profiles, "user", columns, beside=True)})
        checks.check_match(table.file, users["user"], events.frame["user"], main.file.path.name)
    if catalogue is not None:
        table = catalogue.table()
        named = columns | {"item": _id_column(catalogue, "item", columns, beside=True)}
        features, notes["category"], more = read_features(_with_first_categories(table, named), named)
        items, left_out = features, left_out | more
        checks.check_match(table.file, items["item"], events.frame["item"], main.file.path.name)
    if left_out:
        notes["left out"] = listed(f"{shorten(column)} ({why})" for column, why in left_out.items())
    made = to_interactions(rated_name(name, min_rating), events.frame, users, items, counts, notes)
    return made if items is None else dataclasses.replace(made, offered=np.array(items["item"].cast(pl.String).to_list(), str))


def _events(source: Source, columns: dict[str, str], min_rating: float | None) -> Events:
    """The events of the main table, without repeated rows; which columns they are from is among the notes."""
    sample = Table(source.file, source.sample, source.types)
    ids = {role: _id_column(source, role, columns) for role in ("user", "item")}
    if ids["user"] == ids["item"]:
        raise UserError(f"{source.file.header}: column {ids['user']!r} for both user and item; correct --columns")
    time, rating = time_column([sample], tuple(ids.values()), columns), named_column(sample, "rating", columns)
    feedback = [rating] if rating else [column for column in source.types if is_feedback(column) and column not in ids.values()]
    used = [*ids.values(), *([time] if time else []), *feedback]
    sequences = f"{ids['item']}_list"
    if source.types.get(sequences) == "token_seq" and source.file.path.suffix == ".inter":
        used.append(sequences)
    for column in used:
        if source.types[column] == "token_seq" and column != sequences:
            raise UserError(f"{source.file.header}: column {column} holds lists; write one row an interaction")
    table = source.table(used, typed=time if time not in feedback else None)
    rows = table.frame.height
    events = read_events([table], columns | ids | {"time": time or ""}, min_rating)
    shown = ids | ({"time": time} if time else {}) | ({"rating": rating} if rating else {})
    notes = {_COLUMNS: ", ".join(f"{role} {column}" for role, column in shown.items())} | events.notes
    frame, counts = events.frame, {"rows read": rows} | events.counts
    if events.unit:
        frame = _without_repeats(events.frame)
        counts |= {REPEATED: events.frame.height - frame.height} if frame.height < events.frame.height else {}
        if known := times.span(frame["time"], events.unit):
            notes["times"] = known
    return events._replace(frame=frame, counts=counts, notes=notes)


def _id_column(source: Source, role: str, columns: Mapping[str, str], beside: bool = False) -> str:
    """The column of ids: the one of --columns, or the only one with a usual name.

    Args:
      beside: whether this is the file of profiles or of the catalogue, which may have a usual name, or id, where --columns
        names a column of the interactions.

    Raises:
      UserError: there is none, or several may be the one.
    """
    named, names = columns.get(role), list(source.types)
    if named in source.types:
        return named
    shown, where = shorten(", ".join(names), 240), source.file.header
    if named and not beside:
        raise UserError(f"{where}: no column {named!r} for {role}, found {shown}; correct --columns={role}=..")
    found = usual_columns(names, role) or [name for name in names if beside and name.lower() == "id"]
    if len(found) == 1:
        return found[0]
    remedy = f"rename the right one to {named or role + '_id'}" if beside else f"name it by --columns={role}=NAME"
    if found:
        raise UserError(f"{where}: several columns may be the {role} ids: {shorten(', '.join(found), 240)}; {remedy}")
    raise UserError(f"{where}: no column of {role} ids, found {shown}; {remedy}")


def _with_first_categories(table: Table, columns: Mapping[str, str]) -> Table:
    """The table with Drama instead of Drama|War in all columns but those of ids and titles."""
    columns = [
        name
        for name, kind in table.types.items()
        if kind == "token" and name not in (columns["item"], columns.get("title")) and "title" not in name.lower()
    ]
    first = pl.col(columns).str.split("|").list.first().str.strip_chars()
    return table._replace(frame=table.frame.with_columns(first))


def _without_repeats(events: pl.DataFrame) -> pl.DataFrame:
    """The events without later rows of the same user, item and time."""
    # A hash finds the few rows that may be repeated; only these are compared in full.
    hashes = events.select(pl.struct("user", "item", "time").hash().alias("hash"))["hash"]
    ordered = hashes.sort()
    repeated = ordered.filter((ordered == ordered.shift(1)).fill_null(False)).unique()
    if repeated.is_empty():
        return events
    suspects = hashes.is_in(repeated.implode())
    first = events.filter(suspects).select(pl.struct("user", "item", "time").is_first_distinct().alias("first"))["first"]
    return events.filter(pl.Series([True]).new_from_index(0, events.height).scatter(suspects.arg_true(), first))
