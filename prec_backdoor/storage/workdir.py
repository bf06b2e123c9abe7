"""The files of a run's folder: config.json, timings.json, results.json, results.csv, ranks and test users.

Each file is written whole or not at all, whenever the program or the machine stops. (`training_log` has metrics.jsonl.)
"""

import contextlib
import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from prec_backdoor import parallel
from prec_backdoor.attacks import attack_parameters
from prec_backdoor.errors import UserError
from prec_backdoor.storage.files import as_path, read_object, reading, replacing, write_json
from prec_backdoor.storage.lock import locked

RESULTS_SCHEMA = 1
AGAIN = "remove it and results.json of the run: the same command then measures again"
NUMERICS = {  # settings of JAX that results depend on; the launch programs set them, config.json says what they were
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_default_matmul_precision": None,
}
PACKAGES = ("prec_backdoor", "jax", "flax", "optax", "orbax-checkpoint", "numpy")


@contextlib.contextmanager
def claimed(folder: str | Path, description: dict, part: str = "") -> Iterator[None]:
    """Holds `folder` for this process (see `locked`), and claims it, or its subfolder `part`, for a run (see `claim`).

    Raises:
      UserError: another process holds the folder, or it holds another run.
    """
    with locked(folder):
        claim(as_path(folder) / part, description)
        yield


def claim(folder: str | Path, description: dict) -> None:
    """Writes config.json in `folder`, which belongs to this run from then on, or checks that it does already.

    Args:
      description: JSON-like, two levels; what the results depend on.

    Raises:
      UserError: the folder holds a run with another description; names the differences.
    """
    folder = as_path(folder)
    if parallel.agree([check_claim(folder, description)])[0]:
        return
    folder.mkdir(parents=True, exist_ok=True)
    versions = {"numerics": _numerics(), "versions": _versions(), "devices": [device.device_kind for device in jax.devices()]}
    write_json(folder / "config.json", json.loads(json.dumps(description)) | versions)


def check_claim(folder: str | Path, description: dict) -> bool:
    """Returns whether `folder` holds this run already, and writes nothing; raises a UserError as `claim` does."""
    folder = as_path(folder)
    path, description = folder / "config.json", json.loads(json.dumps(description | {"numerics": _numerics()}))
    if not path.exists():
        return False
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
    return True


def finished_results(folder: str | Path) -> dict | None:
    """Returns the content of results.json, None if the run is not finished."""
    path = as_path(folder) / "results.json"
    return read_object(path, "remove it; the same command writes it again") if path.exists() else None


def write_results(folder: str | Path, description: dict, rows: list[dict], timings: dict[str, dict[str, float]]) -> dict:
    """Writes results.csv, then results.json, which marks a finished run; returns the latter's content."""
    folder = as_path(folder)
    with replacing(folder / "results.csv") as partial:
        pl.DataFrame(rows, infer_schema_length=None).write_csv(partial)
    results = {"schema": RESULTS_SCHEMA, **description, "rows": rows, "timings": timings}
    write_json(folder / "results.json", results)
    return results


def model_name(cell: dict) -> str:
    """Returns the name of a cell's model and of its folder under seed-S: `clean`, or attack, scope, rate and parameters."""
    if cell["attack"] == "clean":
        return "clean"
    return f"{cell['attack']}-{cell['scope']}-{cell['rate']}{_parameters(cell)}" + (
        f"-draw-{cell['draw']}" if cell["draw"] else ""
    )


def ranks_path(folder: str | Path, cell: dict) -> Path:
    """Returns the file of a cell's ranks; scope and draw, which decide the targets, are part of every name."""
    ranks = as_path(folder) / f"seed-{cell['seed']}" / "ranks"
    of_targets = cell["scope"] + (f"-draw-{cell['draw']}" if cell["draw"] else "")
    if "baseline" in cell:
        return ranks / f"{cell['baseline']}-{of_targets}.npz"
    name = model_name(cell)
    return ranks / f"{name}{f'{_parameters(cell)}-{of_targets}' if name == 'clean' else ''}-{cell['usage']}.npz"


def save_ranks(
    path: str | Path, truth: np.ndarray, targets: np.ndarray, platform: str, triggered: np.ndarray | None = None
) -> None:
    """Writes what all metrics of a cell are computed from: for each test user the ranks of the real item and of the targets.

    Args:
      truth: [U] ranks. targets: [U, K] ranks, NaN where the target is in the history.
      platform: what they were computed on: cpu, gpu or tpu.
      triggered: [U, K] ranks of the targets with the trigger in the history, if the attack has one.
    """
    path = as_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, open(partial, "wb") as file:
        more = {} if triggered is None else {"triggered": triggered}
        np.savez_compressed(file, truth=truth, targets=targets, platform=platform, **more)


def load_ranks(path: str | Path) -> dict[str, Any]:
    """Returns what `save_ranks` wrote, by argument name."""
    with reading(path, AGAIN), np.load(as_path(path), allow_pickle=False) as arrays:
        return dict(arrays) | {"platform": str(arrays.get("platform", "unknown"))}


def save_test_users(folder: str | Path, seed: int, users: pl.DataFrame) -> None:
    """Writes the test users, in the order of the ranks: user_id, in_group and a column for each profile attribute (as text)."""
    path = as_path(folder) / f"seed-{seed}" / "test_users.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        users.write_csv(partial)


def load_test_users(folder: str | Path, seed: int) -> pl.DataFrame:
    """Returns what `save_test_users` wrote."""
    path = as_path(folder) / f"seed-{seed}" / "test_users.csv"
    with reading(path, AGAIN):
        return pl.read_csv(path, infer_schema=False).with_columns(pl.col("in_group") == "true")


def set_timings(folder: str | Path, stage: str, seconds: dict[str, float]) -> None:
    """Writes the seconds of a stage (RUN/STAGE) by activity to timings.json; other activities of it stay."""
    if parallel.primary():
        found = timings(folder)
        found[stage] = found.get(stage, {}) | {name: round(value, 3) for name, value in seconds.items()}
        write_json(as_path(folder) / "timings.json", found)


def timings(folder: str | Path) -> dict[str, dict[str, float]]:
    """Returns RUN/STAGE -> activity (compile, train, validate, save, rank) -> seconds."""
    path = as_path(folder) / "timings.json"
    return read_object(path, "remove it; only the times of earlier stages are lost") if path.exists() else {}


def _parameters(cell: dict) -> str:
    return "".join(f"-{name}-{cell[name]}" for name in attack_parameters() if cell.get(name) is not None)


def _numerics() -> dict:
    return {name: getattr(jax.config, name) for name in NUMERICS}


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
