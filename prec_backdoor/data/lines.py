"""Text files split into fields. Every error names the file, the line and the text found there."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from prec_backdoor.data.text_files import SHOWN, File, read_lines, refuse_cr, shorten
from prec_backdoor.errors import UserError

__all__ = ["File", "csv_fields", "files", "guess_separator", "read_batches", "read_fields", "read_header", "refuse", "shorten"]

LINE = "#line"  # the column of line numbers; a file may not name a column so
BATCH_BYTES = 1 << 24  # bytes split at once; splitting takes about 15 times as much memory
MAX_FIELDS = 1_000


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
    for first, texts in read_lines(file, encoding, BATCH_BYTES):
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
    return (next(read_lines(file, encoding, 1))[1][0] or "").rstrip("\r")


def guess_separator(file: File, others: str = "") -> str:
    """Returns the separator of a file with a header: a tab where the header has one, else a comma, else the first of `others`.

    It is a tab where the header has none of them.
    """
    header = read_header(file)
    return next((separator for separator in ("\t", ",", *others) if separator in header), "\t")


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
        frame = frame.with_columns(parts=_quoted_fields(texts, separator))
        frame = refuse(frame, file, "text", pl.col("parts").is_null(), "each double quote closed on its line")
        frame = refuse(frame, file, "text", pl.col("parts").list.len() != len(columns), expected)
        fields = frame["parts"].list.to_struct(fields=columns)
    else:
        wrong = pl.col("text").str.count_matches(separator, literal=True) != len(columns) - 1
        frame = refuse(frame, file, "text", wrong, expected)
        fields = frame["text"].str.split_exact(separator, len(columns) - 1).struct.rename_fields(columns)
    return fields.struct.unnest().with_columns(pl.all().str.strip_chars()).insert_column(0, frame[LINE])


def _quoted_fields(texts: pl.Series, separator: str) -> pl.Series:
    """The fields of each line, null where a quote is not closed; one by one only where a quoted field has a quote inside."""
    comma = re.escape(separator)
    field = rf"""(?:"[^"\r]*"|[^"\r{comma}]*)"""
    plain = ~texts.str.contains('"', literal=True) | texts.str.contains(rf"^{field}(?:{comma}{field})*\r?$")
    # With a separator before every field there is no empty match.
    parts = (pl.lit(separator) + pl.col("text").str.strip_suffix("\r")).str.extract_all(rf'{comma}(?:"[^"]*"|[^"{comma}]*)')
    bare = pl.element().str.slice(1).str.replace(r'^"([^"]*)"$', "$1")
    split = pl.DataFrame({"text": texts}).select(pl.when(plain).then(parts.list.eval(bare))).to_series()
    if not plain.all():
        odd = {text: csv_fields(text, separator) for text in texts.filter(~plain).unique()}
        slow = pl.DataFrame({"text": list(odd), "slow": pl.Series(list(odd.values()), dtype=pl.List(pl.String))})
        joined = pl.DataFrame({"text": texts, "split": split}).join(slow, on="text", how="left", maintain_order="left")
        split = joined.select(pl.coalesce("split", "slow")).to_series()
    return split


def _header(file: File, names: list[str], expected: Sequence[str] | None) -> list[str]:
    if expected is not None and names != list(expected):
        wanted, found = ",".join(expected), shorten(",".join(names), 4 * SHOWN)
        raise UserError(f"{file}, line 1: expected the header {wanted}, found {found}; get the original file")
    if any("\r" in name for name in names):
        refuse_cr(file)
    if len(names) > MAX_FIELDS:
        raise UserError(f"{file}, line 1: the header names {len(names)} columns, more than {MAX_FIELDS}; leave some out")
    if len(set(names)) < len(names) or LINE in names:
        twice = next((name for name in names if names.count(name) > 1), None)
        fault = f"a column twice: {shorten(twice)!r}" if twice is not None else f"a column {LINE!r}"
        raise UserError(f"{file}, line 1: the header names {fault}; rename the column")
    return names


def refuse(
    frame: pl.DataFrame, file: File, column: str, wrong: pl.Expr | pl.Series, expected: str, remedy: str = ""
) -> pl.DataFrame:
    """Returns the rows where `wrong` does not hold. The others are skipped, or else the first of them is an error.

    Args:
      remedy: what to do about it [correct the line].

    Raises:
      UserError: names file and line, what was expected there and what `column` has.
    """
    bad = frame.filter(wrong)
    if bad.is_empty():
        return frame
    if file.skipped is None:
        shown, remedy = shorten(str(bad[column][0])), remedy or f"correct the {file.unit}"
        raise UserError(f"{file}, {file.unit} {bad[LINE][0]}: expected {expected}, found {shown!r}; {remedy}")
    file.skipped[f"{file.path.name}: not {expected}"] += bad.height
    return frame.filter(~wrong.fill_null(False))
