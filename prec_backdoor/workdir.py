"""What a run leaves in its folder: config.json, metrics.jsonl, results.json, results.csv."""

import json
import os
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import polars as pl

from prec_backdoor.errors import UserError

RESULTS_SCHEMA = 1
PACKAGES = ("prec_backdoor", "jax", "flax", "optax", "orbax-checkpoint", "numpy")


def claim(folder: Path, description: dict) -> None:
    """Makes `folder` the one of this run, or checks that it is.

    Args:
      description: JSON-like, two levels; what the results depend on.

    Raises:
      UserError: the folder holds a run with another description; names the differences.
    """
    path = folder / "config.json"
    description = json.loads(json.dumps(description))
    if path.exists():
        try:
            found = json.loads(path.read_text())
            before = {part: dict(found.get(part, {})) for part in description}
        except (ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{path}: not readable ({error}); remove the folder or give another --workdir") from error
        differences = [
            f"{'--' if part == 'config' else part + ' '}{name} was {before[part].get(name)!r}, now {wanted.get(name)!r}"
            for part, wanted in description.items()
            for name in sorted(wanted.keys() | before[part].keys())
            if before[part].get(name) != wanted.get(name)
        ]
        if differences:
            raise UserError(f"{folder}: holds another run ({'; '.join(differences)}); give another --workdir")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {**description, "versions": _versions(), "devices": [d.device_kind for d in jax.devices()]})


def finished_results(folder: Path) -> dict | None:
    """The content of results.json, None where it is not there yet."""
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else None


def write_results(folder: Path, description: dict, rows: list[dict], timings: dict[str, float]) -> dict:
    """Writes results.csv and then, as the mark of a finished run, results.json; returns the latter's content."""
    pl.DataFrame(rows, infer_schema_length=None).write_csv(folder / "results.csv")
    results = {"schema": RESULTS_SCHEMA, **description, "rows": rows, "timings": timings}
    write_json(folder / "results.json", results)
    return results


def cell_folder(folder: Path, seed: int, attack: str, rate: float) -> Path:
    """Where one pre-trained model, its fine-tuned version and their ranks are kept."""
    return folder / f"seed-{seed}" / ("clean" if attack == "clean" else f"{attack}-{rate:g}")


def save_ranks(path: Path, users: np.ndarray, in_group: np.ndarray, truth: np.ndarray, targets: np.ndarray) -> None:
    """Keeps what all metrics of one model are computed from: for each test user the ranks of the real item and the targets.

    Args:
      users: [U] codes. in_group: [U] bool. truth: [U] ranks. targets: [U, K] ranks, NaN where the target is in the history.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, users=users, in_group=in_group, truth=truth, targets=targets)


def load_ranks(path: Path) -> dict[str, np.ndarray]:
    """What `save_ranks` wrote, by argument name."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def metrics_log(folder: Path, run: str) -> Callable[[dict], None]:
    """A function that appends records to metrics.jsonl, with the run's name and the time.

    After a resume the steps since the last checkpoint stand there twice, with the same values.
    """

    def log(record: dict) -> None:
        with open(folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"run": run, **record, "time": round(time.time(), 3)}) + "\n")

    return log


def write_json(path: Path, content: dict) -> None:
    """Replaces `path` at once, so that a crash leaves the old file or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
