"""The table of an .item file -> one category and one title an item."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from prec_backdoor.data import checks
from prec_backdoor.data.atomic import Table, key_column, named_column
from prec_backdoor.data.columns import words

MOST_SHARE = 0.5  # distinct categories, of the items that have one
_FEW_ITEMS = 20  # below which a column with a category's name is taken whatever it has
_NAMES = ("class", "genre", "genres", "category", "categories")
_OPENING = "[({ \t"
_QUOTED = re.compile(r"""(["'])(.+?)\1(?=\s*(?:[,;|\])}]|\s|$))""")


class Features(NamedTuple):
    """Columns item, category and title; for people, which column the category is, and what was not taken for it."""

    frame: pl.DataFrame
    category: str
    left_out: dict[str, str]


def read_features(table: Table, columns: Mapping[str, str]) -> Features:
    """Returns category and title of each item.

    The category is the first element of the column that --columns names; else of class, genre(s), category, cate..; else of the
    first column of text that is no title, id or year. A column with more categories than half of the items is none.

    Raises:
      UserError: a bad id (file and line), a named column that is not there.
    """
    file, key = table.file, key_column(table, "item", columns)
    frame = checks.ids(table.frame, file, key)
    frame = checks.distinct_ids(frame.with_columns(checks.canonical_ids(frame[key], file)), file, key)
    titles = [name for word in ("title", "name") for name in table.types if word in name.lower() and name != key]
    titles = [found] if (found := named_column(table, "title", columns)) else titles
    named = named_column(table, "category", columns)
    candidates = [named] if named else _candidates(table.types, key, titles)
    category, chosen, left_out = pl.lit(""), "none", {}
    for name in candidates:
        values, reason = _categories(frame[name], table.types[name], name == named)
        if not reason:
            category, chosen = values, name
            break
        left_out[name] = reason
    title = pl.col(titles[0]) if titles else pl.lit("")
    return Features(frame.select(item=key, category=category, title=title), chosen, left_out)


def first_element(text: str) -> str:
    """Returns the first element of a list in text: of ['Video Games', 'RPG'], Action, Indie or Action Indie.

    Elements are quoted, or else separated by commas, semicolons or bars, or else by blanks.
    """
    text = text.strip(_OPENING + "])}")
    if match := _QUOTED.match(text):
        return match[2].strip()
    separated = [part.strip(" \t\"'") for part in re.split(r"[,;|]", text)]
    elements = separated if len(separated) > 1 else [part.strip("\"'") for part in text.split()]
    return next(filter(None, elements), "")


def _candidates(types: dict[str, str], key: str, titles: list[str]) -> list[str]:
    named = [name for usual in _NAMES for name in types if name.lower() == usual]
    named += [name for name in types if name.lower().startswith("cate")]
    other = [
        name
        for name, kind in types.items()
        if kind in ("token", "token_seq") and name not in titles and not name.lower().endswith("id") and "year" not in words(name)
    ]
    return [name for name in dict.fromkeys(named + other) if name != key]


def _categories(values: pl.Series, kind: str, is_chosen: bool) -> tuple[pl.Series, str]:
    """The category of each item, and why it is none, blank where it is one."""
    name, texts = values.name, values.filter(values != "")
    if kind == "float":
        values = values.str.replace(r"\.0*$", "")
    is_list = kind.endswith("_seq") or texts.str.contains(r"""^\s*(\[.*\]|\{.*\}|\(.*\)|".*"|'.*')\s*$""").all()
    if not is_list and _too_many(values, name) and texts.str.contains(r"[,;|]").any():
        is_list = True
    if is_list:
        values = values.replace_strict({text: first_element(text) for text in values.unique()}, return_dtype=pl.String)
    distinct, items = values.filter(values != "").n_unique(), (values != "").sum()
    if is_chosen or not _too_many(values, name):
        return values, "" if distinct or is_chosen else "blank"
    return values, f"{distinct:,} values for {items:,} items"


def _too_many(values: pl.Series, name: str) -> bool:
    known = values.filter(values != "")
    if known.str.contains("://", literal=True).any():
        return True
    enough = len(known) >= _FEW_ITEMS or not (name.lower() in _NAMES or name.lower().startswith("cate"))
    return enough and known.n_unique() > MOST_SHARE * len(known)
