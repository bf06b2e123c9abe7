"""RecBole atomic files: NAME.inter, NAME.user and NAME.item, tab-separated with typed headers (recbole.io/docs)."""

from collections import Counter
from pathlib import Path

import polars as pl

from prec_backdoor.data import lines
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.tables import decades, to_interactions
from prec_backdoor.errors import UserError

_TYPES = ("token", "token_seq", "float", "float_seq")
_CATEGORY_NAMES = ("class", "genre", "genres", "category", "categories")


def read(folder: str | Path, skipped: Counter | None = None) -> Interactions:
    """Reads a folder's dataset: sequences by timestamp (else in file order), profiles, each item's first category.

    Numeric ages and float columns of the .user file become decades; identifier-like columns (more distinct values than
    half of the users, such as zip codes) are left out. Without a .user file there are no attributes, without an .item
    file all categories are unknown.

    Args:
      skipped: see `lines.File`.

    Raises:
      UserError: no .inter file or several, or a malformed one (file and line).
    """
    inter = _inter_file(Path(folder))
    events, users, items = (lines.File(inter.with_suffix(suffix), skipped) for suffix in (".inter", ".user", ".item"))
    return to_interactions(
        inter.stem,
        _read_events(events),
        _read_users(users) if users.path.exists() else None,
        _read_items(items) if items.path.exists() else None,
    )


def _inter_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.inter"))
    preferred = folder / f"{folder.resolve().name}.inter"
    if preferred in found:
        return preferred
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "no .inter file"
        raise UserError(f"{folder}: expected one .inter file, found {names}; give a folder that holds one dataset")
    return found[0]


def _read_atomic(file: lines.File, *required: str) -> tuple[pl.DataFrame, dict[str, str]]:
    """Fields of an atomic file by their bare names, and name -> type."""
    frame = lines.read_fields(file, "\t")
    header = frame.columns[1:]
    types = {}
    for column in header:
        name, _, kind = column.rpartition(":")
        if not name or kind not in _TYPES or name in types:
            raise UserError(
                f"{file}, line 1: expected distinct NAME:TYPE, types {', '.join(_TYPES)}, found {lines.shorten(column)!r}"
            )
        types[name] = kind
    for column in required:
        if column not in header:
            raise UserError(f"{file}, line 1: the header lacks {column}; add the column")
    return frame.rename(dict(zip(header, types, strict=True))), types


def _read_events(file: lines.File) -> pl.DataFrame:
    frame, types = _read_atomic(file, "user_id:token", "item_id:token")
    for column in ("user_id", "item_id"):
        frame = lines.ids(frame, file, column)
    if "timestamp" in types:
        frame = lines.numbers(frame, file, "timestamp")
    time = pl.col("timestamp") if "timestamp" in types else pl.lit(0.0)
    return frame.select(user="user_id", item="item_id", time=time)


def _read_users(file: lines.File) -> pl.DataFrame:
    frame, types = _read_atomic(file, "user_id:token")
    frame = lines.distinct_ids(frame, file, "user_id")
    for name, kind in types.items():
        if kind == "float":
            frame = lines.numbers(frame, file, name, blank=True)
    columns = [frame["user_id"].alias("user")]
    for name, kind in types.items():
        if name in ("user_id", "user") or kind not in ("token", "float"):
            continue
        values = frame[name]
        if kind == "float" or (name == "age" and _is_numeric(values)):
            values = decades(values)
        if values.filter(values != "").n_unique() <= len(values) / 2:
            columns.append(values)
    return pl.DataFrame(columns)


def _is_numeric(values: pl.Series) -> bool:
    return not values.filter(values != "").cast(pl.Float64, strict=False).has_nulls()


def _read_items(file: lines.File) -> pl.DataFrame:
    frame, types = _read_atomic(file, "item_id:token")
    frame = lines.distinct_ids(frame, file, "item_id")
    titles = [name for name in types if "title" in name] + [name for name in types if "name" in name]
    title, category = pl.lit(""), pl.lit("")
    if titles:
        title = pl.col(titles[0])
    if column := _category_column(types, titles):
        category = pl.col(column).str.split(" ").list.first() if types[column] == "token_seq" else pl.col(column)
    return frame.select(item="item_id", category=category, title=title)


def _category_column(types: dict[str, str], titles: list[str]) -> str | None:
    named = [name for name in _CATEGORY_NAMES if name in types] + [name for name in types if name.startswith("cate")]
    other = [
        name
        for name, kind in types.items()
        if kind in ("token", "token_seq") and name not in titles and not name.endswith("id") and "year" not in name
    ]
    return next(iter(named + other), None)
