"""Lists of recommended items as files, written row by row."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from prec_backdoor.errors import UserError
from prec_backdoor.storage.files import replacing


class Row(NamedTuple):
    """An item of a user's list: raw ids, rank from 1, title, score; whether an audit flagged it, None without an audit."""

    user: str
    rank: int
    item: str
    title: str
    score: float
    flagged: bool | None = None


def _csv(file: TextIO, columns: Sequence[str]) -> Callable[[dict], Any]:
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    return writer.writerow


def _jsonl(file: TextIO, columns: Sequence[str]) -> Callable[[dict], Any]:
    del columns
    return lambda row: file.write(json.dumps(row, ensure_ascii=False) + "\n")


LISTS = {".csv": _csv, ".jsonl": _jsonl}  # ending of a file -> its writer


def write_lists(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> int:
    """Writes the rows to a file whose ending is a key of LISTS, whole or not at all; returns their number.

    Args:
      columns: fields of Row.

    Raises:
      UserError: the file cannot be written.
    """
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            write = LISTS[path.suffix](file, columns)
            for row in rows:
                write({name: getattr(row, name) for name in columns})
                count += 1
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room or give another --output") from error
    return count
