"""One table in a file of any form, or in memory: CSV, TSV, Parquet, JSON lines, RecBole's .inter, a polars or pandas frame."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from prec_backdoor.data import lines, text_files
from prec_backdoor.data.atomic import TYPES, Table
from prec_backdoor.data.lines import LINE, File
from prec_backdoor.data.typed_frames import frame_of, kind_of, to_texts
from prec_backdoor.errors import UserError

_SAMPLE, _JSON_SAMPLE = 100_000, 1_000  # rows of a typed table that show which column is what
_SEPARATORS = ";|"  # besides tab and comma
_TYPED_HEADER = (".inter", ".user", ".item")


class Source(NamedTuple):
    """A table that is not read whole until it is known which of its columns are needed.

    Attributes:
      types: column -> token, float or token_seq, see `atomic.TYPES`.
      sample: the first rows, with LINE, of all columns as texts.
      rows: (columns, typed) -> LINE and these columns of all rows, as texts; a number or date of the column `typed` stays one.
        To be called once.
    """

    file: File
    types: dict[str, str]
    sample: pl.DataFrame
    rows: Callable[[Sequence[str], str | None], pl.DataFrame]

    def table(self, columns: Sequence[str] | None = None, typed: str | None = None) -> Table:
        """Returns the table of these columns, all by default."""
        columns = list(self.types if columns is None else dict.fromkeys(columns))
        return Table(self.file, self.rows(columns, typed), {name: self.types[name] for name in columns})


def open_table(path: str | Path, skipped: Counter | None = None) -> Source:
    """Returns the table of a file, whose form is told by its first bytes and its suffix.

    Text is UTF-8, separated by tabs, commas, semicolons or bars, whichever the header has first; it may be packed with gzip.

    Args:
      skipped: see `text_files.File`.

    Raises:
      UserError: the file is missing, damaged, or of another form.
    """
    file = File(Path(path), skipped)
    if file.path.is_dir():
        raise UserError(f"{path}: a folder, not a file; give one file, or a folder that launch.prepare_data wrote")
    start = text_files.read_start(file)
    if text_files.is_packed(start):
        file = file._replace(packed=True)
        start = text_files.read_start(file)
    suffix = next((end for end in reversed(file.path.suffixes) if end.lower() != ".gz"), "").lower()
    if start.startswith(b"PAR1"):
        return _parquet(file._replace(unit="row"))
    if suffix in (".parquet", ".pq"):
        raise UserError(f"{path}: not a Parquet file, whatever its name says; name it after its form, as in events.csv")
    plain = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if plain.startswith(b"["):
        raise UserError(f"{path}, line 1: one JSON array; write one object a line, as with jq -c '.[]'")
    if plain.startswith(b"{"):
        return _json_lines(file)
    return _texts(file, suffix)


def open_frame(frame: Any, name: str) -> Source:
    """Returns the table of a frame of polars or pandas, or of columns by name; raises a UserError for anything else."""
    return _typed(File(Path(name), None, "row"), frame_of(frame, name))


def _texts(file: File, suffix: str) -> Source:
    batches = lines.read_batches(file, lines.guess_separator(file, _SEPARATORS), quotes=True)
    first = next(batches)
    names = {name: (name, "token") for name in first.columns[1:]}
    if suffix in _TYPED_HEADER:
        names = {name: _typed_name(file, name) for name in names}
    if "" in names or len({name for name, _ in names.values()}) < len(names):
        raise UserError(f"{file.header}: a column without a name, or two of one name; name every column in the first line")
    renamed = {old: new for old, (new, _) in names.items()}
    types = {name: _number_or_token(first[old]) if kind == "token" else kind for old, (name, kind) in names.items()}

    def rows(columns: Sequence[str], typed: str | None) -> pl.DataFrame:
        del typed
        return pl.concat(batch.rename(renamed).select(LINE, *columns) for batch in _chained(first, batches))

    return Source(file, types, first.rename(renamed), rows)


def _typed_name(file: File, header: str) -> tuple[str, str]:
    """Name and type of NAME:TYPE."""
    name, _, kind = header.rpartition(":")
    if not name or kind not in TYPES:
        shown = lines.shorten(header)
        raise UserError(f"{file.header}: expected NAME:TYPE, types {', '.join(TYPES)}, found {shown!r}; correct the header")
    return name, kind


def _number_or_token(texts: pl.Series) -> str:
    """float for amounts: numbers some of which have a fraction; all other columns are tokens."""
    known = texts.filter(texts != "")
    amounts = len(known) and known.str.contains(r"\.[0-9]*[1-9]").any()
    return "float" if amounts and not known.cast(pl.Float64, strict=False).has_nulls() else "token"


def _chained(first: pl.DataFrame, others: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    yield first
    yield from others


def _parquet(file: File) -> Source:
    if file.packed:
        raise UserError(f"{file}: a Parquet file packed with gzip; unpack it, as Parquet is packed inside")
    try:
        return _typed(file, pl.scan_parquet(file.path, glob=False))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file}: a damaged Parquet file ({str(error).splitlines()[0]:.120}); get it again") from error


def _typed(file: File, frame: pl.LazyFrame) -> Source:
    schema = frame.collect_schema()
    if LINE in schema or "" in schema:
        raise UserError(f"{file}: a column without a name, or one called {LINE!r}; rename it")
    head = frame.head(_SAMPLE).collect()
    if head.is_empty():
        raise UserError(f"{file}: no rows; give a table with interactions")
    sample = _readable(file._replace(skipped=Counter()), head)
    types = {name: kind_of(dtype) for name, dtype in schema.items()}
    types = {name: _number_or_token(sample[name]) if kind == "float" else kind for name, kind in types.items()}

    def rows(columns: Sequence[str], typed: str | None) -> pl.DataFrame:
        try:
            return _readable(file, frame.select(columns).collect(), typed)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{file}: a damaged file ({str(error).splitlines()[0]:.120}); get it again") from error

    return Source(file, types, sample, rows)


def _readable(file: File, frame: pl.DataFrame, typed: str | None = None) -> pl.DataFrame:
    try:
        return to_texts(file, frame, typed)
    except pl.exceptions.ComputeError as error:  # bytes
        raise UserError(f"{file}: a column that is no text ({str(error).splitlines()[0]:.120}); write texts in UTF-8") from error


def _json_lines(file: File) -> Source:
    batches = text_files.read_lines(file, "utf-8-sig", lines.BATCH_BYTES)
    first = next(batches)
    parsed = [content for text in first[1][:_JSON_SAMPLE] if isinstance(content := _parse(text or "")[0], dict)]
    met = Counter(name for content in parsed for name in content if name != LINE)
    nested = Counter(name for content in parsed for name, value in content.items() if isinstance(value, list | dict))
    types = {name: "token_seq" if nested[name] * 2 > count else "token" for name, count in met.items()}
    sample = _objects(file._replace(skipped=Counter()), *first, list(types), ())
    if sample.is_empty():
        raise UserError(f"{file}, line 1: no JSON object; write one on each line")
    types |= {name: _number_or_token(sample[name]) for name, kind in types.items() if kind == "token"}

    def rows(columns: Sequence[str], typed: str | None) -> pl.DataFrame:
        del typed
        flat = [name for name in columns if types[name] != "token_seq"]
        return pl.concat(_objects(file, start, texts, columns, flat) for start, texts in _chained(first, batches))

    return Source(file, types, sample, rows)


def _objects(file: File, start: int, texts: list[str | None], columns: Sequence[str], flat: Sequence[str]) -> pl.DataFrame:
    """LINE and columns of one batch of JSON lines; a value that is missing or null is blank, a list is JSON text.

    Args:
      flat: the columns in which a list or an object is refused.
    """
    frame = pl.DataFrame({"text": texts}, {"text": pl.String}).with_row_index(LINE, offset=start)
    frame = lines.refuse(frame, file, "text", pl.col("text").is_null(), "UTF-8 text")
    frame = frame.filter(pl.col("text").str.strip_chars() != "")
    try:
        values = frame["text"].str.json_decode(pl.Struct({"_": pl.String, **dict.fromkeys(columns, pl.String)}))
        faults = pl.Series([None], dtype=pl.String).new_from_index(0, len(values))
        found = values.struct.unnest().select(columns)
        if values.has_nulls():
            raise pl.exceptions.ComputeError("no object")
    except pl.exceptions.PolarsError:  # an odd line, which polars does not name
        parsed = [_parse(text) for text in frame["text"]]
        faults = pl.Series([fault or _nested(content, flat) for content, fault in parsed], dtype=pl.String)
        rows = [{name: _text(content.get(name)) for name in columns} for content, _ in parsed]
        found = pl.DataFrame(rows, dict.fromkeys(columns, pl.String), orient="row")
    frame = pl.concat([frame, found], how="horizontal").with_columns(faults.alias("#fault"))
    frame = lines.refuse(frame, file, "text", pl.col("#fault").is_not_null(), "a JSON object with one value as each column")
    for name in columns:
        frame = lines.refuse(
            frame, file, name, pl.col(name).str.contains("\0", literal=True).fill_null(False), f"text without NUL as {name}"
        )
    return frame.select(LINE, pl.col(columns).fill_null("").str.strip_chars())


def _parse(text: str) -> tuple[dict[str, Any], str | None]:
    """The JSON object in a text, and what is wrong with it."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {}, str(error)
    return (content, None) if isinstance(content, dict) else ({}, "no object")


def _nested(content: dict[str, Any], flat: Sequence[str]) -> str | None:
    return next((name for name in flat if isinstance(content.get(name), list | dict)), None)


def _text(value: Any) -> str | None:
    """A value as polars writes it, NaN as null; a list or an object as JSON."""
    if value is None or value != value:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
