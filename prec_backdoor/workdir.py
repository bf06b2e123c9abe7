"""What a run leaves in its folder: config.json, metrics.jsonl, results.json, results.csv."""

import functools
import json
import os
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import polars as pl
from tensorboardX import SummaryWriter

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


def model_name(cell: dict) -> str:
    """Of a cell's model, as its folder under seed-S is called: `clean`, or attack, scope and rates."""
    if cell["attack"] == "clean":
        return "clean"
    name = f"{cell['attack']}-{cell['scope']}-{cell['rate']}"
    name += "" if cell["demote_rate"] is None else f"-demote-{cell['demote_rate']}"
    return name + (f"-draw-{cell['draw']}" if cell["draw"] else "")


def ranks_path(folder: Path, cell: dict) -> Path:
    """Where a cell's ranks are kept; those of one clean model differ by scope and draw, which decide the targets."""
    name = model_name(cell)
    if name == "clean":
        name += f"-{cell['scope']}" + (f"-draw-{cell['draw']}" if cell["draw"] else "")
    return folder / f"seed-{cell['seed']}" / "ranks" / f"{name}-{cell['usage']}.npz"


def save_ranks(path: Path, truth: np.ndarray, targets: np.ndarray) -> None:
    """Keeps what all metrics of a cell are computed from: for each test user the ranks of the real item and the targets.

    Args:
      truth: [U] ranks. targets: [U, K] ranks, NaN where the target is in the history.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        np.savez_compressed(file, truth=truth, targets=targets)
    os.replace(partial, path)


def load_ranks(path: Path) -> dict[str, np.ndarray]:
    """What `save_ranks` wrote, by argument name."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def save_test_users(folder: Path, seed: int, users: pl.DataFrame) -> None:
    """Keeps who was tested, in the order of the ranks: user_id, in_group and a column for each profile attribute (as text)."""
    path = folder / f"seed-{seed}" / "test_users.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    users.write_csv(path)


def load_test_users(folder: Path, seed: int) -> pl.DataFrame:
    """What `save_test_users` wrote."""
    return pl.read_csv(folder / f"seed-{seed}" / "test_users.csv", infer_schema=False).with_columns(pl.col("in_group") == "true")


def timings(folder: Path) -> dict[str, float]:
    """Seconds of training of each stage, from metrics.jsonl."""
    with open(folder / "metrics.jsonl") as file:
        records = map(json.loads, file)
        return {f"{record['run']}/{record['stage']}": round(record["seconds"], 3) for record in records}


def metrics_log(folder: Path, run: str, tensorboard: bool = False) -> Callable[[dict], None]:
    """A function that appends records to metrics.jsonl, with the run's name and the time.

    After a resume the steps since the last checkpoint stand there twice, with the same values.

    Args:
      tensorboard: writes the numbers of a record for TensorBoard too, under tensorboard/RUN/STAGE.
    """
    writer_of = functools.cache(lambda stage: SummaryWriter(str(folder / "tensorboard" / run / stage)))

    def log(record: dict) -> None:
        with open(folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"run": run, **record, "time": round(time.time(), 3)}) + "\n")
        if tensorboard:
            writer = writer_of(record["stage"])
            for name, value in record.items():
                if isinstance(value, float):
                    writer.add_scalar(name, value, record["step"])
            writer.flush()

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
