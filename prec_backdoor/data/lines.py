"""Text files of separated fields; every complaint names the file, the line and the text found there."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from tqdm import tqdm

from prec_backdoor.errors import UserError

LINE = "#line"  # no field of a known format is called so
BATCH_BYTES = 1 << 24  # text split at once; takes some 15 times as much memory while it is split
_SHOWN = 60  # characters of a wrong text that a message quotes


def read_fields(
    path: str | Path, separator: str, columns: Sequence[str] | None = None, encoding: str = "utf-8-sig"
) -> pl.DataFrame:
    r"""Splits each line of a text file: LINE, its number from 1, and one string column a field, stripped of blanks.

    Lines end in \n or \r\n. Without `columns` the first line names the fields.

    Raises:
      UserError: missing, empty, truncated or undecodable file, wrong number of fields, a column named twice.
    """
    return pl.concat(read_batches(path, separator, columns, encoding=encoding))


def read_batches(
    path: str | Path,
    separator: str,
    columns: Sequence[str] | None = None,
    header: Sequence[str] | None = None,
    encoding: str = "utf-8-sig",
) -> Iterator[pl.DataFrame]:
    """What read_fields reads, some lines at a time and with a progress bar, so that a file may be larger than memory.

    Args:
      columns: names of the fields where the file has no header.
      header: the only header allowed.

    Raises:
      UserError: as read_fields; another header.
    """
    path, some = Path(path), False
    for first, text in _read_texts(path, encoding):
        texts = pl.Series("text", [text.removesuffix("\n")]).str.split("\n").explode()
        frame = pl.DataFrame([texts]).with_row_index(LINE, offset=first)
        if columns is None:
            columns = _header(path, texts[0].split(separator), header)
            frame = frame[1:]
        if frame.is_empty():
            continue
        some = True
        wrong = pl.col("text").str.count_matches(separator, literal=True) != len(columns) - 1
        refuse(frame, path, "text", wrong, f"{len(columns)} fields separated by {separator!r}")
        fields = frame["text"].str.split_exact(separator, len(columns) - 1).struct.rename_fields(list(columns))
        yield fields.struct.unnest().with_columns(pl.all().str.strip_chars()).insert_column(0, frame[LINE])
    if not some:
        raise UserError(f"{path}: no line of data follows the header; get the file again")


def read_header(path: str | Path, encoding: str = "utf-8-sig") -> str:
    """The first line of a text file; raises UserError as read_fields does."""
    texts = _read_texts(Path(path), encoding, 1)
    return next(texts)[1].rstrip("\r\n")


def _header(path: Path, names: list[str], expected: Sequence[str] | None) -> list[str]:
    names = [name.strip() for name in names]
    if expected is not None and names != list(expected):
        wanted, found = ",".join(expected), _shorten(",".join(names), 4 * _SHOWN)
        raise UserError(f"{path}, line 1: expected the header {wanted}, found {found}; get the original file")
    if len(set(names)) < len(names):
        raise UserError(f"{path}, line 1: the header names a column twice; rename one")
    return names


def _read_texts(path: Path, encoding: str, size: int | None = None) -> Iterator[tuple[int, str]]:
    """The number of the first line, and the text, of one batch of whole lines after the other."""
    first = 1
    try:
        with (
            open(path, "rb") as file,
            tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, leave=False, disable=None) as progress,
        ):
            while data := file.read(size or BATCH_BYTES):
                data += file.readline()
                count = data.count(b"\n")
                if not data.endswith(b"\n"):
                    last = first + count
                    raise UserError(f"{path}, line {last}: the file looks truncated; if it is complete, add a line end")
                yield first, _decode(path, data, first, encoding if first == 1 else encoding.removesuffix("-sig"))
                progress.update(len(data))
                first += count
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the folder given") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path and its permissions") from error
    if first == 1:
        raise UserError(f"{path}: the file is empty; get it again")


def _decode(path: Path, data: bytes, first: int, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        raise UserError(f"{path}, line {line}: not {encoding.removesuffix('-sig')} text; convert the file to it") from error


def refuse(frame: pl.DataFrame, path: str | Path, column: str, wrong: pl.Expr, expected: str) -> None:
    """Raises a UserError with the first line where `wrong` holds, what was expected there and what `column` has."""
    found = frame.filter(wrong).head(1)
    if not found.is_empty():
        shown = _shorten(str(found[column][0]), _SHOWN)
        raise UserError(f"{path}, line {found[LINE][0]}: expected {expected}, found {shown!r}; correct the line")


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "..."


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


def whole_numbers(frame: pl.DataFrame, path: str | Path, *columns: str) -> pl.DataFrame:
    """Casts string columns to int64, the cheapest form of ids; raises a UserError where a text is not a whole number."""
    for column in columns:
        wrong = pl.col(column).cast(pl.Int64, strict=False).is_null()
        refuse(frame, path, column, wrong, f"a whole number as {column}")
    return frame.with_columns(pl.col(columns).cast(pl.Int64))


def one_of(frame: pl.DataFrame, path: str | Path, column: str, values: Sequence[str]) -> None:
    """Raises a UserError where a text is none of `values`."""
    refuse(frame, path, column, ~pl.col(column).is_in(values), f"{', '.join(filter(None, values))} as {column}")


def ids(frame: pl.DataFrame, path: str | Path, column: str) -> None:
    """Raises a UserError where an id is blank."""
    refuse(frame, path, column, pl.col(column) == "", f"an id as {column}")


def distinct_ids(frame: pl.DataFrame, path: str | Path, column: str) -> None:
    """Raises a UserError where an id is blank or stands for the second time."""
    if frame[column].dtype == pl.String:  # whole numbers cannot be blank
        ids(frame, path, column)
    refuse(frame, path, column, ~pl.col(column).is_first_distinct(), f"each {column} once")


def known_ids(frame: pl.DataFrame, path: str | Path, column: str, listed: pl.DataFrame, where: str) -> None:
    """Raises a UserError where an id of `frame` is not one of `listed`, the frame of file `where`."""
    unknown = frame.join(listed, on=column, how="anti").sort(LINE)
    refuse(unknown, path, column, pl.lit(True), f"one of the {column} ids in {where}")
