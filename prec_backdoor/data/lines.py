"""Text files split into fields. Every error names the file, the line and the text found there."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import polars as pl
from tqdm import tqdm

from prec_backdoor.errors import UserError

LINE = "#line"  # the column of line numbers; a file may not name a column so
BATCH_BYTES = 1 << 24  # bytes split at once; splitting takes about 15 times as much memory
MAX_LINE = 1 << 20  # bytes
MAX_FIELDS = 1_000
SHOWN = 60  # characters of a wrong text that a message quotes
_NOT_TEXT = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"PAR1": "Parquet"}
_MOST_NULS = 0.4  # share of NUL bytes in the first line from which a file without a byte order mark is UTF-16


class File(NamedTuple):
    """A text file. Its bad rows are left out and counted in `skipped` by reason; where `skipped` is None they are errors."""

    path: Path
    skipped: Counter | None = None

    def __str__(self) -> str:
        return str(self.path)


def files(folder: str | Path, names: Sequence[str], skipped: Counter | None = None) -> list[File]:
    """Returns one File for each name."""
    return [File(Path(folder) / name, skipped) for name in names]


def read_fields(
    file: File, separator: str, columns: Sequence[str] | None = None, encoding: str = "utf-8-sig", quotes: bool = False
) -> pl.DataFrame:
    r"""Returns one row a line: LINE, its number from 1, and one string column a field, stripped of blanks.

    Lines end in \n or \r\n. Without `columns` the first line names the fields.

    Args:
      quotes: whether a field may stand in double quotes, as in CSV; a quoted field ends on its line.

    Raises:
      UserError: missing or empty file, UTF-16, a column named twice; a bad row (cut off, not text, wrong number of fields)
        unless bad rows are skipped.
    """
    return pl.concat(read_batches(file, separator, columns, encoding=encoding, quotes=quotes))


def read_batches(
    file: File,
    separator: str,
    columns: Sequence[str] | None = None,
    header: Sequence[str] | None = None,
    encoding: str = "utf-8-sig",
    quotes: bool = False,
) -> Iterator[pl.DataFrame]:
    """Yields what read_fields returns in parts, with a progress bar, so that a file may be larger than memory.

    Args:
      columns: names of the fields of a file without a header.
      header: the only header allowed.

    Raises:
      UserError: as read_fields; another header.
    """
    some = False
    for first, texts in _read_texts(file, encoding):
        frame = pl.DataFrame({"text": texts}, {"text": pl.String}).with_row_index(LINE, offset=first)
        if columns is None:
            columns = _header(file, split_header(texts[0] or "", separator, quotes), header)
            frame = frame[1:]
        if frame.is_empty():
            continue
        some = True
        frame = refuse(frame, file, "text", pl.col("text").is_null(), f"{encoding.removesuffix('-sig')} text")
        # NumPy strings end at a NUL, so two ids could become one.
        frame = refuse(frame, file, "text", pl.col("text").str.contains("\0", literal=True), "text without NUL characters")
        yield _split(frame, file, separator, list(columns), quotes)
    if not some:
        raise UserError(f"{file}: no line of data follows the header; get the file again")


def read_header(file: File, encoding: str = "utf-8-sig") -> str:
    """Returns the first line of a text file; raises UserError as read_fields does."""
    return (next(_read_texts(file, encoding, 1))[1][0] or "").rstrip("\r")


def guess_separator(file: File) -> str:
    """Returns the separator of a file with a header: a tab where the header has one, else a comma where it has one."""
    header = read_header(file)
    return "," if "," in header and "\t" not in header else "\t"


def split_header(line: str, separator: str, quotes: bool = False) -> list[str]:
    """Returns the names in a header line, stripped of blanks and, where `quotes` allows them, of quotes."""
    names = (quotes and csv_fields(line, separator)) or line.split(separator)
    return [name.strip() for name in names]


def csv_fields(line: str, separator: str) -> list[str] | None:
    """Returns the fields of one CSV line with double quotes; None where a quote is not closed on the line."""
    reader = csv.reader([line.rstrip("\r"), ""], delimiter=separator, skipinitialspace=True)
    try:
        fields = next(reader)
    except csv.Error:  # a carriage return inside, or a field beyond the module's limit
        return None
    return fields if reader.line_num == 1 else None


def _split(frame: pl.DataFrame, file: File, separator: str, columns: list[str], quotes: bool) -> pl.DataFrame:
    texts, expected = frame["text"], f"{len(columns)} fields separated by {separator!r}"
    if quotes and texts.str.contains('"', literal=True).any():
        parts = [csv_fields(text, separator) if '"' in text else text.split(separator) for text in texts]
        frame = frame.with_columns(parts=pl.Series(parts, dtype=pl.List(pl.String)))
        frame = refuse(frame, file, "text", pl.col("parts").is_null(), "each double quote closed on its line")
        frame = refuse(frame, file, "text", pl.col("parts").list.len() != len(columns), expected)
        fields = frame["parts"].list.to_struct(fields=columns)
    else:
        wrong = pl.col("text").str.count_matches(separator, literal=True) != len(columns) - 1
        frame = refuse(frame, file, "text", wrong, expected)
        fields = frame["text"].str.split_exact(separator, len(columns) - 1).struct.rename_fields(columns)
    return fields.struct.unnest().with_columns(pl.all().str.strip_chars()).insert_column(0, frame[LINE])


def _header(file: File, names: list[str], expected: Sequence[str] | None) -> list[str]:
    if expected is not None and names != list(expected):
        wanted, found = ",".join(expected), shorten(",".join(names), 4 * SHOWN)
        raise UserError(f"{file}, line 1: expected the header {wanted}, found {found}; get the original file")
    if any("\r" in name for name in names):
        _refuse_cr(file)
    if len(names) > MAX_FIELDS:
        raise UserError(f"{file}, line 1: the header names {len(names)} columns, more than {MAX_FIELDS}; leave some out")
    if len(set(names)) < len(names) or LINE in names:
        twice = next((name for name in names if names.count(name) > 1), None)
        fault = f"a column twice: {shorten(twice)!r}" if twice is not None else f"a column {LINE!r}"
        raise UserError(f"{file}, line 1: the header names {fault}; rename the column")
    return names


def _read_texts(file: File, encoding: str, size: int | None = None) -> Iterator[tuple[int, list[str | None]]]:
    """Yields the number of the first line and the lines of one batch after the other; None is a line that is not text."""
    first, path = 1, file.path
    try:
        with (
            open(path, "rb") as opened,
            tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, leave=False, disable=None) as progress,
        ):
            while data := opened.read(size or BATCH_BYTES):
                data += b"" if data.endswith(b"\n") else opened.readline(MAX_LINE)
                if first == 1:
                    _check_kind(file, data)
                if len(data) - data.rfind(b"\n") > MAX_LINE:
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


def _check_kind(file: File, data: bytes) -> None:
    """Raises a UserError where the beginning of a file shows that it has another form than lines of UTF-8 or Latin-1."""
    kind = next((kind for mark, kind in _NOT_TEXT.items() if data.startswith(mark)), None)
    line = data.partition(b"\n")[0]
    if kind == "UTF-16" or kind is None and len(line) > 2 and line.count(0) >= _MOST_NULS * len(line) and line.strip(b"\0"):
        raise UserError(f"{file}: UTF-16 text; convert the file to UTF-8, as with iconv -f UTF-16 -t UTF-8")
    if kind:
        raise UserError(f"{file}: a {kind} file, not text; unpack it or export it as text")
    if b"\r" in data and b"\n" not in data:
        _refuse_cr(file)


def _refuse_cr(file: File) -> NoReturn:
    raise UserError(f"{file}, line 1: lines end in CR alone; convert the file to LF line ends, as with tr '\\r' '\\n'")


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


def refuse(frame: pl.DataFrame, file: File, column: str, wrong: pl.Expr | pl.Series, expected: str) -> pl.DataFrame:
    """Returns the rows where `wrong` does not hold. The others are skipped, or else the first of them is an error.

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
    """Returns the text, cut to `length` characters for a message."""
    return text if len(text) <= length else text[:length] + "..."
