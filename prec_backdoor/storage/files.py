"""Files that are whole at any time: each is written beside its place, and replaces it once it is on the disk."""

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from polars.exceptions import PolarsError

from prec_backdoor import parallel
from prec_backdoor.errors import UserError


@contextlib.contextmanager
def reading(path: str | Path, remedy: str) -> Iterator[None]:
    """Raises a UserError that names the file and the remedy if what is read within is damaged; errors of the system pass."""
    try:
        yield
    except (ValueError, LookupError, EOFError, TypeError, zipfile.BadZipFile, zlib.error, PolarsError) as error:
        raise UserError(f"{path}: damaged; {remedy}") from error


def read_object(path: Path, remedy: str) -> dict:
    """Returns the content of a JSON file that holds an object; see `reading`."""
    with reading(path, remedy):
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise TypeError
        return content


def as_path(folder: str | Path) -> Path:
    """Returns the path; ~ is the home folder."""
    return Path(folder).expanduser()


def write_json(path: str | Path, content: dict) -> None:
    """Replaces the file by `content`; of a table, a list of records, each record is a line."""
    entries = ",\n".join(f" {json.dumps(str(name))}: {_entry(value)}" for name, value in content.items())
    with replacing(path) as partial:
        partial.write_text(f"{{\n{entries}\n}}\n")


def _entry(value: Any) -> str:
    """The text of an entry. JSON with indentation is written ten times slower, which a table of 100,000 items shows."""
    if isinstance(value, list) and value and all(isinstance(record, dict) for record in value):
        records = ",\n".join(f"  {json.dumps(record)}" for record in value)
        return f"[\n{records}\n ]"
    return json.dumps(value, indent=1).replace("\n", "\n ")


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a path to write to; once that file is on the disk it replaces `path`, which is whole at any time.

    Of several processes, the primary one's file is kept.
    """
    path = as_path(path)
    own = "" if parallel.primary() else f"{jax.process_index()}-"
    partial = path.with_name(f".partial-{own}{path.name}")  # some writers choose the format by the suffix
    try:
        yield partial
        if own:
            return
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    except OSError as error:
        if error.filename == str(partial):
            error.filename = str(path)  # the one that people know
        raise
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
