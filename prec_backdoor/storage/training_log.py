"""metrics.jsonl of a run's folder, which grows line by line while models train."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from tensorboardX import SummaryWriter

from prec_backdoor import parallel
from prec_backdoor.storage.files import as_path, reading, replacing


def replaced_labels(folder: str | Path) -> dict[str, dict[str, int]]:
    """Returns run/stage -> {"replaced", "labels"}: how many labels an attack replaced in all epochs, and of how many."""
    found: dict[str, dict[str, int]] = {}
    for _, record in _records(as_path(folder) / "metrics.jsonl"):
        counts = found.setdefault(f"{record['run']}/{record['stage']}", {"replaced": 0, "labels": 0})
        counts["replaced"] += int(record["replaced"])
        counts["labels"] += int(record["positions"])
    return {name: counts for name, counts in found.items() if counts["replaced"]}


def metrics_log(folder: str | Path, run: str, tensorboard: bool = False) -> Callable[[dict], None]:
    """Returns a function that appends a record to metrics.jsonl, with the run's name and the time.

    A resumed stage repeats the steps since its last checkpoint: their records are removed before its first one.

    Args:
      tensorboard: writes the numbers of a record for TensorBoard too, under tensorboard/RUN/STAGE.
    """
    if not parallel.primary():
        return lambda record: None
    folder = as_path(folder)
    path, writers, begun = folder / "metrics.jsonl", {}, set()

    def log(record: dict) -> None:
        stage, step = record["stage"], record["step"]
        if stage not in begun:
            begun.add(stage)
            _forget(path, run, stage, step)
            if tensorboard:
                writers[stage] = SummaryWriter(str(folder / "tensorboard" / run / stage), purge_step=step)
        with open(path, "a") as file:
            file.write(json.dumps({"run": run, **record, "time": round(time.time(), 3)}) + "\n")
        if tensorboard:
            for name, value in record.items():
                if isinstance(value, float):
                    writers[stage].add_scalar(name, value, step)
            writers[stage].flush()

    return log


def _forget(path: Path, run: str, stage: str, step: int) -> None:
    """Removes the records of a stage from `step` on, and a last line that was cut off."""
    if not path.exists():
        return
    kept = [line for line, record in _records(path) if (record["run"], record["stage"]) != (run, stage) or record["step"] < step]
    if sum(map(len, kept)) < path.stat().st_size:
        with replacing(path) as partial:
            partial.write_bytes(b"".join(kept))


def _records(path: Path) -> list[tuple[bytes, dict]]:
    """Each whole line, and what it says."""
    lines, found = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")], []
    for number, line in enumerate(lines, 1):
        with reading(path, f"remove line {number}"):
            found.append((line, record := json.loads(line)))
            if not set(record) >= {"run", "stage", "step"}:
                raise ValueError
    return found
