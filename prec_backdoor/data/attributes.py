"""The table of a .user file -> profile attributes."""

from collections.abc import Mapping

import polars as pl

from prec_backdoor.data import checks
from prec_backdoor.data.atomic import Table, key_column
from prec_backdoor.data.columns import is_age
from prec_backdoor.data.interactions import check_attribute_names
from prec_backdoor.data.tables import decades

MOST_NUMBERS = 20  # distinct values of a numeric attribute that are groups and not amounts
_AGES = (1, 120)  # years
_FEW = 2  # distinct values that are no identifiers, however few users there are
_FIRST_DECADE = 10  # years; codes of age groups stay below


def read_attributes(table: Table, columns: Mapping[str, str]) -> tuple[pl.DataFrame, dict[str, str]]:
    """Returns a column user, and a column of texts for each profile attribute; attribute -> why it is left out.

    Ages in whole years become decades. Left out are lists, float columns of more than 20 values, and columns that have more
    distinct values than half of the users (identifiers, zip codes).

    Raises:
      UserError: a bad id or number (file and line), a column name that is kept for ours.
    """
    file, key = table.file, key_column(table, "user", columns)
    frame = checks.ids(table.frame, file, key)
    frame = checks.distinct_ids(frame.with_columns(checks.canonical_ids(frame[key], file)), file, key)
    check_attribute_names(file.header, (name for name in table.types if name != key))
    for name, kind in table.types.items():
        if kind == "float" and name != key:
            frame = checks.finite(frame, file, name, blank=True)
    kept, left_out = [frame[key].alias("user")], {}
    for name, kind in table.types.items():
        if name == key:
            continue
        values = _grouped(frame[name], kind)
        reason = _why_not(values, kind)
        if reason:
            left_out[name] = reason
        else:
            kept.append(values)
    return pl.DataFrame(kept), left_out


def _grouped(values: pl.Series, kind: str) -> pl.Series:
    """Decades of ages; floats that are whole as whole numbers; other values as they are."""
    if kind not in ("token", "float"):
        return values
    if is_age(values.name) and _are_ages(values):
        return decades(values)
    return values.str.replace(r"^([+-]?[0-9]+)\.0*$", "$1") if kind == "float" else values


def _are_ages(values: pl.Series) -> bool:
    numbers = values.filter(values != "").cast(pl.Float64, strict=False)
    if numbers.has_nulls() or numbers.is_empty():
        return False
    return bool((numbers.is_between(*_AGES) & (numbers % 1 == 0)).all() and numbers.max() >= _FIRST_DECADE)


def _why_not(values: pl.Series, kind: str) -> str:
    if kind not in ("token", "float"):
        return "a list"
    distinct = values.filter(values != "").n_unique()
    if distinct > max(len(values) / 2, _FEW):
        return f"{distinct:,} values for {len(values):,} users"
    if kind == "float" and not values.str.contains(r"^[0-9]+-[0-9]+$").any() and distinct > MOST_NUMBERS:
        return f"{distinct:,} numbers, more than {MOST_NUMBERS}"
    return ""
