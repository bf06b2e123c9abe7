"""The split files of the released code of the paper (github.com/wyqing20/APRec): train, dev, cold_train, cold_dev, cold_test."""

from collections import Counter
from pathlib import Path

import polars as pl

from prec_backdoor.data import checks, lines, times
from prec_backdoor.data.interactions import PARTS, Interactions, check_attribute_names
from prec_backdoor.data.tables import to_interactions
from prec_backdoor.errors import UserError

SOURCE = "linked from https://github.com/wyqing20/APRec, data/AttackAliEC"
COLUMNS = ("user_id", "item_id", "time", "cate")
SUFFIXES = (".csv", ".tsv", ".txt", "")
_NOT_OF_USERS = ("brand", "shop", "neg_items", "user", "")  # features of items, negatives of ReChorus, ids and row numbers


def read(folder: str | Path, skipped: Counter | None = None) -> Interactions:
    """Returns the dataset of the five files, separated by tabs or commas; the file that a row is in is its part of the split.

    Columns are in any order. Those of train that are not in COLUMNS are profile attributes, except brand, shop, neg_items and
    user. Where rows disagree on the profile of a user or the category of an item, the first row counts, in the order of the
    files: the released targets list an item under two categories. Users who have held-out rows alone (dev, or cold_test) are
    left out, as they have no history to predict from.

    Args:
      skipped: see `lines.File`.

    Raises:
      UserError: a file missing, twice there or malformed (with its line), a lacking column, a user on both sides.
    """
    folder = Path(folder)
    files = [lines.File(_find(folder, part), skipped) for part in PARTS]
    attributes = [name for name in _header(files[0])[1] if name not in (*COLUMNS, *_NOT_OF_USERS)]
    check_attribute_names(f"{files[0]}, line 1", attributes)
    counts, events, users, items = {}, [], [], []
    for code, file in enumerate(files):
        separator, header = _header(file)
        for column in (*COLUMNS, *attributes):
            if column not in header:
                found, needed = (lines.shorten(", ".join(names), 240) for names in (header, (*COLUMNS, *attributes)))
                lacks = f"the header lacks {lines.shorten(column)}; needed are {needed}, found {found}"
                raise UserError(f"{file}, line 1: {lacks}; rename the columns")
        part = []
        for batch in lines.read_batches(file, separator, quotes=True):
            batch = checks.ids(checks.ids(batch, file, "user_id"), file, "item_id")
            batch = checks.finite(batch, file, "time").rename({"user_id": "user", "item_id": "item", "cate": "category"})
            part.append(batch.select("user", "item", "time", split=pl.lit(code, pl.Int8)))
            users.append(batch.select("user", *attributes).unique(maintain_order=True))
            items.append(batch.select("item", "category").unique(maintain_order=True))
        events += part
        counts[f"rows of {PARTS[code]}"] = sum(batch.height for batch in part)

    events, left_out = _known_users(_with_ids(events, files[0], "user", "item"), files)
    events = events.with_columns(times.exact(events["time"]))
    users, many_profiles = _first_of_each(_with_ids(users, files[0], "user"), "user")
    items, many_categories = _first_of_each(_with_ids(items, files[0], "item"), "item")
    held_out = events.filter(pl.col("split").is_in([PARTS.index("dev"), PARTS.index("cold_test")]))
    counts |= {
        "rows without a history": left_out,
        "later held-out rows": held_out.height - held_out["user"].n_unique(),
        "users of many profiles": many_profiles,
        "items of many categories": many_categories,
    }
    name, notes = f"presplit-{folder.resolve().name}", {"order": "time within each part", "category": "cate"}
    return to_interactions(name, events, users, items.with_columns(title=pl.lit("")), counts, notes)


def _find(folder: Path, part: str) -> Path:
    found = [path for suffix in SUFFIXES if (path := folder / f"{part}{suffix}").exists()]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(f"{folder}: expected one file {part} (.csv, .tsv, .txt or no suffix), found {names}")
    return found[0]


def _header(file: lines.File) -> tuple[str, list[str]]:
    """The separator, and the names of the columns."""
    line = lines.read_header(file)
    separator = "\t" if "\t" in line else ","
    return separator, lines.split_header(line, separator, quotes=True)


def _known_users(events: pl.DataFrame, files: list[lines.File]) -> tuple[pl.DataFrame, int]:
    """The events without those of users who have held-out rows alone, and the number of these."""
    first, last = pl.col("split").min().over("user"), pl.col("split").max().over("user")
    both = events.filter((first < 2) & (last >= 2)).head(1)
    if not both.is_empty():
        user = both["user"][0]
        ends = events.filter(user=user)["split"].sort()
        raise UserError(
            f"{files[ends[-1]]}: user {lines.shorten(user)!r} is in {files[ends[0]].path.name} too; "
            "take the user out of the provider's files or out of the downstream company's"
        )
    known = events.filter((first != last) | first.is_in([PARTS.index("train"), PARTS.index("cold_train")]))
    return known, events.height - known.height


def _with_ids(tables: list[pl.DataFrame], file: lines.File, *columns: str) -> pl.DataFrame:
    """One table, with ids that all files write alike (see `checks.canonical_ids`)."""
    table = pl.concat(tables)
    return table.with_columns(checks.canonical_ids(table[column], file) for column in columns)


def _first_of_each(table: pl.DataFrame, key: str) -> tuple[pl.DataFrame, int]:
    """The first row of each `key`, and the number of keys that have other rows."""
    table = table.unique(maintain_order=True)
    return table.unique(key, keep="first", maintain_order=True), table.filter(pl.col(key).is_duplicated())[key].n_unique()
