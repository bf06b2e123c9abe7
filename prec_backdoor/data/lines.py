"""Text files of separated fields; every complaint names the file, the line and the text found there."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from prec_backdoor.errors import UserError

LINE = "#line"  # no field of a known format is called so
_SHOWN = 60  # characters of a wrong text that a message quotes


def read_fields(
    path: str | Path, separator: str, columns: Sequence[str] | None = None, encoding: str = "utf-8-sig"
) -> pl.DataFrame:
    r"""Splits each line of a text file: LINE, its number from 1, and one string column a field, stripped of blanks.

    Lines end in \n or \r\n. Without `columns` the first line names the fields.

    Raises:
      UserError: missing, empty, truncated or undecodable file, wrong number of fields, a column named twice.
    """
    path = Path(path)
    text = pl.Series("text", [_read_text(path, encoding).removesuffix("\n")]).str.split("\n").explode()
    frame = pl.DataFrame([text]).with_row_index(LINE, offset=1)
    if columns is None:
        columns = [name.strip() for name in text[0].split(separator)]
        frame = frame[1:]
        if len(set(columns)) < len(columns):
            raise UserError(f"{path}, line 1: the header names a column twice; rename one")
    if frame.is_empty():
        raise UserError(f"{path}: no line of data follows the header; get the file again")
    wrong = pl.col("text").str.count_matches(separator, literal=True) != len(columns) - 1
    refuse(frame, path, "text", wrong, f"{len(columns)} fields separated by {separator!r}")
    fields = frame["text"].str.split_exact(separator, len(columns) - 1).struct.rename_fields(list(columns))
    return fields.struct.unnest().with_columns(pl.all().str.strip_chars()).insert_column(0, frame[LINE])


def _read_text(path: Path, encoding: str) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the folder given") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path and its permissions") from error
    if not data:
        raise UserError(f"{path}: the file is empty; get it again")
    if not data.endswith(b"\n"):
        last = data.count(b"\n") + 1
        raise UserError(f"{path}, line {last}: the file looks truncated; if it is complete, add a line end")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = encoding.removesuffix("-sig")
        raise UserError(f"{path}, line {line}: not {name} text; convert the file to it") from error


def refuse(frame: pl.DataFrame, path: str | Path, column: str, wrong: pl.Expr, expected: str) -> None:
    """Raises a UserError with the first line where `wrong` holds, what was expected there and what `column` has."""
    found = frame.filter(wrong).head(1)
    if not found.is_empty():
        text = found[column][0]
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
        raise UserError(f"{path}, line {found[LINE][0]}: expected {expected}, found {shown!r}; correct the line")


def numbers(frame: pl.DataFrame, path: str | Path, *columns: str, blank: bool = False) -> pl.DataFrame:
    """Casts string columns to float64; a blank becomes null where `blank` allows it.

    Raises:
      UserError: a text that is not a finite number.
    """
    for column in columns:
        wrong = ~pl.col(column).cast(pl.Float64, strict=False).is_finite().fill_null(False)
        if blank:
            wrong &= pl.col(column) != ""
        refuse(frame, path, column, wrong, f"a number as {column}")
    return frame.with_columns(pl.col(columns).cast(pl.Float64, strict=False))


def ids(frame: pl.DataFrame, path: str | Path, column: str) -> None:
    """Raises a UserError where an id is blank."""
    refuse(frame, path, column, pl.col(column) == "", f"an id as {column}")


def distinct_ids(frame: pl.DataFrame, path: str | Path, column: str) -> None:
    """Raises a UserError where an id is blank or stands for the second time."""
    ids(frame, path, column)
    refuse(frame, path, column, ~pl.col(column).is_first_distinct(), f"each {column} once")


def known_ids(frame: pl.DataFrame, path: str | Path, column: str, listed: pl.DataFrame, where: str) -> None:
    """Raises a UserError where an id of `frame` is not one of `listed`, the frame of file `where`."""
    unknown = frame.join(listed, on=column, how="anti").sort(LINE)
    refuse(unknown, path, column, pl.lit(True), f"one of the {column} ids in {where}")
