"""Files that are whole at any time: each is written beside its place, and replaces it once it is on the disk."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from prec_backdoor import parallel


def as_path(folder: str | Path) -> Path:
    """Returns the path; ~ is the home folder."""
    return Path(folder).expanduser()


def write_json(path: str | Path, content: dict) -> None:
    """Replaces the file by `content`."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


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
        _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
