"""Checks of the columns that `lines` reads: a row that fails one is refused (see `lines.refuse`)."""

from collections.abc import Sequence

import polars as pl

from prec_backdoor.data.lines import File, refuse, shorten
from prec_backdoor.errors import UserError

MAX_ID = 128  # characters; ids are kept in arrays as wide as the longest
_WHOLE = r"^[+-]?[0-9]+$"
_WHOLE_FLOAT = r"^[+-]?[0-9]+\.0+$"
_FRACTION = r"^[+-]?[0-9]*\.[0-9]*[1-9][0-9]*$"
_EXPONENT = r"^[+-]?[0-9](\.[0-9]+)?[eE]\+[0-9]+$"
_EXACT_DIGITS = 15  # decimal digits that every float64 keeps


def finite(frame: pl.DataFrame, file: File, *columns: str, blank: bool = False) -> pl.DataFrame:
    """Refuses a text that is not a finite number; a blank passes where `blank` allows it. The columns stay texts."""
    for column in columns:
        wrong = ~pl.col(column).cast(pl.Float64, strict=False).is_finite().fill_null(False)
        if blank:
            wrong &= pl.col(column) != ""
        frame = refuse(frame, file, column, wrong, f"a number as {column}")
    return frame


def numbers(frame: pl.DataFrame, file: File, *columns: str, blank: bool = False) -> pl.DataFrame:
    """Casts string columns to float64 and refuses what `finite` refuses; a blank that is allowed becomes null."""
    return finite(frame, file, *columns, blank=blank).with_columns(pl.col(columns).cast(pl.Float64, strict=False))


def whole_numbers(frame: pl.DataFrame, file: File, *columns: str) -> pl.DataFrame:
    """Casts string columns to int64, the smallest form of ids; a text that is not a whole number is refused."""
    for column in columns:
        wrong = pl.col(column).cast(pl.Int64, strict=False).is_null()
        frame = refuse(frame, file, column, wrong, f"a whole number as {column}")
    return frame.with_columns(pl.col(columns).cast(pl.Int64))


def one_of(frame: pl.DataFrame, file: File, column: str, values: Sequence[str]) -> pl.DataFrame:
    """Refuses a text that is not one of `values`."""
    return refuse(frame, file, column, ~pl.col(column).is_in(values), f"{', '.join(filter(None, values))} as {column}")


def ids(frame: pl.DataFrame, file: File, column: str) -> pl.DataFrame:
    """Refuses an id that is blank, or longer than MAX_ID."""
    frame = refuse(frame, file, column, pl.col(column) == "", f"an id as {column}")
    return refuse(frame, file, column, pl.col(column).str.len_chars() > MAX_ID, f"up to {MAX_ID} characters as {column}")


def canonical_ids(texts: pl.Series, where: File) -> pl.Series:
    """Returns ids without the .0 that a table program adds to whole numbers; as they are where one of them has a fraction.

    Raises:
      UserError: an id that may have lost digits: a float of more than 15 digits, or an exponent (1e+05) where all are numbers.
    """
    if not texts.str.contains(r"\.0+$|\+[0-9]+$").any() or texts.str.contains(_FRACTION).any():
        return texts
    exponent, whole = texts.str.contains(_EXPONENT), texts.str.contains(_WHOLE_FLOAT)
    only_numbers = (exponent | whole | texts.str.contains(_WHOLE)).all()
    digits = texts.str.extract(r"^[+-]?([0-9]+)").str.len_chars()
    lost = texts.filter((exponent & only_numbers) | (whole & (digits > _EXACT_DIGITS)))
    if len(lost):
        raise UserError(
            f"{where}: {texts.name} {lost[0]!r} is an id written as a float, which loses digits; write whole numbers or text"
        )
    return texts.str.replace(r"^([+-]?[0-9]+)\.0+$", "$1")


def distinct_ids(frame: pl.DataFrame, file: File, column: str) -> pl.DataFrame:
    """Refuses an id that `ids` refuses, and the second row of an id."""
    if frame[column].dtype == pl.String:  # whole numbers cannot be blank
        frame = ids(frame, file, column)
    return refuse(frame, file, column, ~pl.col(column).is_first_distinct(), f"each {column} once")


def known_ids(frame: pl.DataFrame, file: File, column: str, listed: pl.DataFrame, where: File) -> pl.DataFrame:
    """Refuses an id that is not one of `listed`, the frame of file `where`."""
    unknown = ~pl.col(column).is_in(listed[column].implode())
    return refuse(frame, file, column, unknown, f"one of the {column} ids in {where.path.name}")


def check_match(where: object, listed: pl.Series, met: pl.Series, others: str) -> None:
    """Raises a UserError where the ids that the file `where` lists and those met in the file `others` have none in common."""
    if len(listed) and len(met) and not listed.is_in(met.implode()).any():
        shown = [shorten(str(ids[0]), 20) for ids in (listed, met)]
        raise UserError(f"{where}: none of its ids is in {others} ({shown[0]!r} here, {shown[1]!r} there); write ids alike")
