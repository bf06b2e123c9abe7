"""Files as lines of text: plain or packed with gzip, decoded in batches, with what is wrong named by file and line."""

import contextlib
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from tqdm import tqdm

from prec_backdoor.errors import UserError

MAX_LINE = 1 << 20  # bytes
SHOWN = 60  # characters of a wrong text that a message quotes
_GZIP = b"\x1f\x8b"
_NOT_TEXT = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", _GZIP: "gzip", b"PK\x03\x04": "zip", b"PAR1": "Parquet"}
_MOST_NULS = 0.4  # share of NUL bytes in the first line from which a file without a byte order mark is UTF-16


class File(NamedTuple):
    """A table's file. Its bad rows are left out and counted in `skipped` by reason; where `skipped` is None they are errors.

    Attributes:
      unit: what messages call a row: line or, in a file that has no lines, row.
      packed: whether the file is packed with gzip.
    """

    path: Path
    skipped: Counter | None = None
    unit: str = "line"
    packed: bool = False

    def __str__(self) -> str:
        return str(self.path)

    @property
    def header(self) -> str:
        """Where the names of the columns are, for a message."""
        return f"{self}, line 1" if self.unit == "line" else str(self)


def shorten(text: str, length: int = SHOWN) -> str:
    """Returns the text, cut to `length` characters for a message."""
    return text if len(text) <= length else text[:length] + "..."


def is_packed(data: bytes) -> bool:
    """Returns whether bytes are the beginning of a file that is packed with gzip."""
    return data.startswith(_GZIP)


def read_start(file: File, size: int = 1 << 10) -> bytes:
    """Returns the first bytes of a file, unpacked; raises a UserError where it cannot be read."""
    with opened(file) as (stream, _):
        return stream.read(size)


def read_lines(file: File, encoding: str, size: int) -> Iterator[tuple[int, list[str | None]]]:
    """Yields the number of the first line and the lines of one batch after the other; None is a line that is not text.

    Args:
      size: bytes of a batch, which ends with its last line.

    Raises:
      UserError: a missing, empty or damaged file, one of another form, a line that is too long, cut off or not text.
    """
    first, path = 1, file.path
    with opened(file) as (stream, progress):
        while data := stream.read(size):
            data += b"" if data.endswith(b"\n") else stream.readline(MAX_LINE)
            if first == 1:
                _check_kind(file, data)
            if len(data) - data.rfind(b"\n") > MAX_LINE:
                line = first + data.count(b"\n")
                raise UserError(f"{path}, line {line}: longer than {MAX_LINE} bytes; this is no file of lines")
            progress()
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
    if first == 1:
        raise UserError(f"{path}: the file is empty; get it again")


@contextlib.contextmanager
def opened(file: File) -> Iterator[tuple[BinaryIO, Callable[[], None]]]:
    """Opens a file to read its bytes, unpacked, with a progress bar that the second of the pair moves to the place read.

    Raises:
      UserError: the file is missing, may not be read or is damaged.
    """
    path = file.path
    try:
        with (
            open(path, "rb") as raw,
            gzip.open(raw) if file.packed else contextlib.nullcontext(raw) as stream,
            tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, leave=False, disable=None) as progress,
        ):
            yield stream, lambda: progress.update(raw.tell() - progress.n)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the folder given") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: a damaged gzip file ({error!s:.80}); get it again") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path and its permissions") from error


def _check_kind(file: File, data: bytes) -> None:
    """Raises a UserError where the beginning of a file shows that it has another form than lines of UTF-8 or Latin-1."""
    kind = next((kind for mark, kind in _NOT_TEXT.items() if data.startswith(mark)), None)
    line = data.partition(b"\n")[0]
    if kind == "UTF-16" or kind is None and len(line) > 2 and line.count(0) >= _MOST_NULS * len(line) and line.strip(b"\0"):
        raise UserError(f"{file}: UTF-16 text; convert the file to UTF-8, as with iconv -f UTF-16 -t UTF-8")
    if kind:
        raise UserError(f"{file}: a {kind} file, not text; unpack it or export it as text")
    if b"\r" in data and b"\n" not in data:
        refuse_cr(file)


def refuse_cr(file: File) -> NoReturn:
    """Raises the UserError of a file whose lines end in CR alone."""
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
