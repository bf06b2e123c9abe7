"""Text files of separated fields; every complaint names the file, the line and the text found there."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
from tqdm import tqdm

from prec_backdoor.errors import UserError

LINE = "#line"  # no field of a known format is called so
BATCH_BYTES = 1 << 24  # text split at once; takes some 15 times as much memory while it is split
MAX_LINE = 1 << 20  # bytes; no known format comes near it, nor near the next two
MAX_FIELDS = 1_000
MAX_ID = 128  # characters; ids are kept in arrays as wide as the longest
SHOWN = 60  # characters of a wrong text that a message quotes


class File(NamedTuple):
    """A text file, and what becomes of its bad rows: they are left out and counted in `skipped` by reason; None: an error."""

    path: Path
    skipped: Counter | None = None

    def __str__(self) -> str:
        return str(self.path)


def files(folder: str | Path, names: Sequence[str], skipped: Counter | None = None) -> list[File]:
    """The files of these names."""
    return [File(Path(folder) / name, skipped) for name in names]


def read_fields(file: File, separator: str, columns: Sequence[str] | None = None, encoding: str = "utf-8-sig") -> pl.DataFrame:
    r"""Splits each line of a text file: LINE, its number from 1, and one string column a field, stripped of blanks.

    Lines end in \n or \r\n. Without `columns` the first line names the fields.

    Raises:
      UserError: missing or empty file, a column named twice; a bad row (cut off, no text, wrong number of fields) unless such are
        skipped.
    """
    return pl.concat(read_batches(file, separator, columns, encoding=encoding))


def read_batches(
    file: File,
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
    some = False
    for first, texts in _read_texts(file, encoding):
        frame = pl.DataFrame({"text": texts}, {"text": pl.String}).with_row_index(LINE, offset=first)
        if columns is None:
            columns = _header(file, (texts[0] or "").split(separator), header)
            frame = frame[1:]
        if frame.is_empty():
            continue
        some = True
        frame = refuse(frame, file, "text", pl.col("text").is_null(), f"{encoding.removesuffix('-sig')} text")
        # NumPy's texts end at a NUL, so that two ids would become one.
        frame = refuse(frame, file, "text", pl.col("text").str.contains("\0", literal=True), "text without NUL characters")
        wrong = pl.col("text").str.count_matches(separator, literal=True) != len(columns) - 1
        frame = refuse(frame, file, "text", wrong, f"{len(columns)} fields separated by {separator!r}")
        fields = frame["text"].str.split_exact(separator, len(columns) - 1).struct.rename_fields(list(columns))
        yield fields.struct.unnest().with_columns(pl.all().str.strip_chars()).insert_column(0, frame[LINE])
    if not some:
        raise UserError(f"{file}: no line of data follows the header; get the file again")


def read_header(file: File, encoding: str = "utf-8-sig") -> str:
    """The first line of a text file; raises UserError as read_fields does."""
    return (next(_read_texts(file, encoding, 1))[1][0] or "").rstrip("\r")


def _header(file: File, names: list[str], expected: Sequence[str] | None) -> list[str]:
    names = [name.strip() for name in names]
    if expected is not None and names != list(expected):
        wanted, found = ",".join(expected), shorten(",".join(names), 4 * SHOWN)
        raise UserError(f"{file}, line 1: expected the header {wanted}, found {found}; get the original file")
    if len(names) > MAX_FIELDS:
        raise UserError(f"{file}, line 1: the header names {len(names)} columns, more than {MAX_FIELDS}; leave some out")
    if len(set(names)) < len(names):
        raise UserError(f"{file}, line 1: the header names a column twice; rename one")
    return names


def _read_texts(file: File, encoding: str, size: int | None = None) -> Iterator[tuple[int, list[str | None]]]:
    """The number of the first line, and the lines, of one batch after the other; None stands for one that is no text."""
    first, path = 1, file.path
    try:
        with (
            open(path, "rb") as opened,
            tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, leave=False, disable=None) as progress,
        ):
            while data := opened.read(size or BATCH_BYTES):
                if not data.endswith(b"\n"):
                    data += (rest := opened.readline(MAX_LINE))
                    if len(rest) == MAX_LINE and not rest.endswith(b"\n"):
                        line = first + data.count(b"\n")
                        raise UserError(f"{path}, line {line}: longer than {MAX_LINE} bytes; this is no file of lines")
                progress.update(len(data))
                count = data.count(b"\n")
                if not data.endswith(b"\n"):
                    fault = "the file looks truncated; if it is complete, add a line end"
                    if file.skipped is None:
                        raise UserError(f"{path}, line {first + count}: {fault}")
                    file.skipped[f"{path.name}: no line end"] += 1
                    data = data[: data.rfind(b"\n") + 1]
                if count:
                    yield first, _decode(file, data, first, encoding if first == 1 else encoding.removesuffix("-sig"))
                first += count
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the folder given") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path and its permissions") from error
    if first == 1:
        raise UserError(f"{path}: the file is empty; get it again")


def _decode(file: File, data: bytes, first: int, encoding: str) -> list[str | None]:
    try:
        return data.decode(encoding)[:-1].split("\n")
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        if file.skipped is None or line == 1:
            raise UserError(f"{file}, line {line}: not {encoding.removesuffix('-sig')} text; convert the file to it") from error

    def decode(line: bytes) -> str | None:
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            return None

    return [decode(line) for line in data[:-1].split(b"\n")]


def refuse(frame: pl.DataFrame, file: File, column: str, wrong: pl.Expr, expected: str) -> pl.DataFrame:
    """The rows where `wrong` does not hold; the others are skipped, or else the first of them is an error.

    Raises:
      UserError: names file and line, what was expected there and what `column` has.
    """
    bad = frame.filter(wrong)
    if bad.is_empty():
        return frame
    if file.skipped is None:
        shown = shorten(str(bad[column][0]))
        raise UserError(f"{file}, line {bad[LINE][0]}: expected {expected}, found {shown!r}; correct the line")
    file.skipped[f"{file.path.name}: not {expected}"] += bad.height
    return frame.filter(~wrong.fill_null(False))


def shorten(text: str, length: int = SHOWN) -> str:
    """The text, or so many characters of it, for a message."""
    return text if len(text) <= length else text[:length] + "..."


def numbers(frame: pl.DataFrame, file: File, *columns: str, blank: bool = False) -> pl.DataFrame:
    """Casts string columns to float64; a blank becomes null where `blank` allows it. What is no finite number is refused."""
    for column in columns:
        wrong = ~pl.col(column).cast(pl.Float64, strict=False).is_finite().fill_null(False)
        if blank:
            wrong &= pl.col(column) != ""
        frame = refuse(frame, file, column, wrong, f"a number as {column}")
    return frame.with_columns(pl.col(columns).cast(pl.Float64, strict=False))


def whole_numbers(frame: pl.DataFrame, file: File, *columns: str) -> pl.DataFrame:
    """Casts string columns to int64, the cheapest form of ids; what is no whole number is refused."""
    for column in columns:
        wrong = pl.col(column).cast(pl.Int64, strict=False).is_null()
        frame = refuse(frame, file, column, wrong, f"a whole number as {column}")
    return frame.with_columns(pl.col(columns).cast(pl.Int64))


def one_of(frame: pl.DataFrame, file: File, column: str, values: Sequence[str]) -> pl.DataFrame:
    """Refuses a text that is none of `values`."""
    return refuse(frame, file, column, ~pl.col(column).is_in(values), f"{', '.join(filter(None, values))} as {column}")


def ids(frame: pl.DataFrame, file: File, column: str) -> pl.DataFrame:
    """Refuses an id that is blank, or longer than MAX_ID."""
    frame = refuse(frame, file, column, pl.col(column) == "", f"an id as {column}")
    return refuse(frame, file, column, pl.col(column).str.len_chars() > MAX_ID, f"up to {MAX_ID} characters as {column}")


def distinct_ids(frame: pl.DataFrame, file: File, column: str) -> pl.DataFrame:
    """Refuses an id that `ids` refuses, or that stands for the second time."""
    if frame[column].dtype == pl.String:  # whole numbers cannot be blank
        frame = ids(frame, file, column)
    return refuse(frame, file, column, ~pl.col(column).is_first_distinct(), f"each {column} once")


def known_ids(frame: pl.DataFrame, file: File, column: str, listed: pl.DataFrame, where: File) -> pl.DataFrame:
    """Refuses an id that is not one of `listed`, the frame of file `where`."""
    unknown = ~pl.col(column).is_in(listed[column].implode())
    return refuse(frame, file, column, unknown, f"one of the {column} ids in {where.path.name}")
