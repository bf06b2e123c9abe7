"""Checkpoints between stages: Orbax arrays with JSON metadata and content hashes, the chain of custody.

A checkpoint may be damaged, or come from a stranger (docs/threat-model.md). Orbax writes; reading is done here, with little in
between: nothing is unpickled or evaluated, links are not followed, metadata, names, shapes, dtypes and sizes are held against
what the declared model must have before any array is read, and the content hashes are checked after.
"""

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig, init_params

SCHEMA = 2
KEEP = 2  # the newest checkpoint and the one before it
MAX_JSON_BYTES = 1 << 20
MAX_LAYERS = 256  # each takes time to trace, however small
MAX_INFLATION = 10  # bytes of all arrays to bytes on disk; trained weights hardly compress
_SMALL = 1 << 24  # bytes that need no file to vouch for them
_REQUIRED = {"schema": int, "step": int, "hash": str, "stage": str, "finished": bool, "model": dict, "dataset": dict}


class Checkpoint(NamedTuple):
    """A stage's result: `params` (numpy, unreplicated), the `model` they fit, the JSON `metadata`, and where it was read."""

    params: dict
    model: ModelConfig
    metadata: dict
    path: Path


def content_hash(tree) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def save(folder: Path, step: int, params: dict, training, metadata: dict) -> None:
    """Writes checkpoint `step` to `folder`, all or nothing, and removes older ones than the one before.

    Later ones, which `resume` found damaged when it went back behind them, and what an unfinished save left are removed first.

    Args:
      params: what a next stage starts from.
      training: pytree needed only to continue this stage, or None when it is finished.
      metadata: JSON-like; schema, step, content hashes and the digest of all this are added.

    Raises:
      UserError: it cannot be written, as on a full disk; the checkpoint before it is whole.
    """
    training_hash = None if training is None else content_hash(training)
    metadata = {"schema": SCHEMA, "step": step, "hash": content_hash(params), "training_hash": training_hash, **metadata}
    metadata["digest"] = _digest(metadata)
    items = {"params": ocp.args.StandardSave(params), "metadata": ocp.args.JsonSave(metadata)}
    if training is not None:
        items["training"] = ocp.args.StandardSave(training)
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="save")
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEEP, create=False, enable_async_checkpointing=False, multiprocessing_options=alone
    )
    handlers = {name: ocp.StandardCheckpointHandler(multiprocessing_options=alone) for name in ("params", "training")}
    handlers["metadata"] = ocp.JsonCheckpointHandler(multiprocessing_options=alone)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unsound(folder, step)
        if shutil.disk_usage(folder).free < sum(leaf.nbytes for leaf in jax.tree.leaves((params, training))):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # before Orbax stumbles in many threads, each with its say
        with ocp.CheckpointManager(folder.absolute(), options=options, item_handlers=handlers) as manager:
            manager.save(step, args=ocp.args.Composite(**items))
    except (OSError, ValueError) as error:  # ValueError is TensorStore's, for a full disk too
        _remove_unsound(folder, step)
        code = re.search(r"os_error_code='(\d+)'", str(error))
        reason = os.strerror(int(code[1])) if code else getattr(error, "strerror", None) or _first_line(error)
        raise UserError(
            f"{folder / str(step)}: the checkpoint cannot be written ({reason}); make room or mend the path, then run the same "
            "command again: it goes on from the checkpoint before"
        ) from error


def load(path: str | Path) -> Checkpoint:
    """Reads the newest checkpoint under `path`: a stage's folder, or its checkpoints folder.

    If that one is damaged, stderr says so and the one before it is read: `metadata` tells its step and whether it is finished.

    Raises:
      UserError: there is none, or none that is sound and what its metadata declares.
    """
    folder = _locate(Path(path).expanduser())
    return _newest_sound(folder, _read_declared, "use another copy")


def progress(folder: Path) -> dict | None:
    """The metadata of the newest sound checkpoint in a checkpoints folder, the arrays unread; None if there is none yet."""
    return _newest_sound(folder, _read_metadata, f"remove {folder} to start the stage again") if _steps(folder) else None


def resume(folder: Path, params: dict, training) -> tuple[dict, object, dict] | None:
    """The newest checkpoint of a stage under way as (params, training, metadata); None where there is none yet.

    `training` is None in the result when the stage is finished. If the newest one is damaged, stderr says so and the one before
    it is taken.

    Args:
      params, training: pytrees of the shapes that were saved.

    Raises:
      UserError: there are checkpoints, and none is sound.
    """

    def read(where: Path) -> tuple[dict, object, dict]:
        metadata = _read_metadata(where)
        found = _read_arrays(where / "params", params, metadata["hash"])
        if metadata["finished"]:
            return found, None, metadata
        return found, _read_arrays(where / "training", training, metadata["training_hash"]), metadata

    return _newest_sound(folder, read, f"remove {folder} to start the stage again") if _steps(folder) else None


def _newest_sound(folder: Path, read: Callable, remedy: str):
    """`read(folder of a step)` for the newest step for which it raises no UserError, which says what is wrong there."""
    faults = []
    for step in _steps(folder):
        try:
            _check_files(folder / str(step))
            found = read(folder / str(step))
        except UserError as error:
            faults.append(f"{folder / str(step)}: {error}")
            continue
        for fault in faults:
            print(f"warning: {fault}; the checkpoint before it, {step}, is used instead", file=sys.stderr)
        return found
    before = f"; nor is one before it sound ({', '.join(map(str, _steps(folder)[1:]))})" if len(faults) > 1 else ""
    raise UserError(f"{faults[0]}{before}; {remedy}")


def _steps(folder: Path) -> list[int]:
    """Of all checkpoints there, sound or not, newest first."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if name.isdecimal() and name == str(int(name))), reverse=True)


def _remove_unsound(folder: Path, step: int) -> None:
    """Removes checkpoints from `step` on, and what unfinished saves have left."""
    if jax.process_index():
        return
    later = [folder / str(number) for number in _steps(folder) if number >= step]
    for path in (*later, *folder.glob("*.orbax-checkpoint-tmp*")):
        shutil.rmtree(path, ignore_errors=True)


def _locate(path: Path) -> Path:
    for folder in (path / "checkpoints", path):
        if _steps(folder):
            return folder
    raise UserError(f"{path}: no checkpoint there; give the folder of a stage, which holds checkpoints/")


def _check_files(where: Path) -> None:
    """Raises a UserError where anything but files and folders lies in a checkpoint: a link leads elsewhere, a pipe blocks."""
    for path in (where, *where.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            inside = path.relative_to(where.parent)
            raise UserError(f"{inside} is a link or no file at all, which no checkpoint of this program has")


def _read_metadata(where: Path) -> dict:
    path = where / "metadata" / "metadata"
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(
                f"metadata of {path.stat().st_size} bytes; no checkpoint of this program has more than {MAX_JSON_BYTES}"
            )
        metadata = json.loads(path.read_bytes())
        digest = _digest(metadata) if isinstance(metadata, dict) else None
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("damaged checkpoint, no readable metadata") from error
    for name, kind in _REQUIRED.items():
        if not isinstance(metadata, dict) or not isinstance(metadata.get(name), kind):
            raise UserError(f"metadata has no valid '{name}'; not a checkpoint of this program")
    if metadata["schema"] != SCHEMA:
        raise UserError(f"checkpoint schema {str(metadata['schema'])[:9]}, this program reads {SCHEMA}")
    if metadata.get("digest") != digest:
        raise UserError("damaged checkpoint, the metadata do not have the recorded digest")
    return metadata


def _digest(metadata: dict) -> str:
    content = {name: value for name, value in metadata.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_declared(where: Path) -> Checkpoint:
    metadata = _read_metadata(where)
    model = _declared_model(metadata["model"])
    try:
        expected = jax.eval_shape(lambda: init_params(jax.random.key(0), model))
    except (ValueError, TypeError, OverflowError) as error:  # sizes beyond any array's
        raise UserError(f"metadata declares a model that cannot be ({_first_line(error)})") from error
    size = sum(array.size * array.dtype.itemsize for array in jax.tree.leaves(expected))
    on_disk = sum(path.stat().st_size for path in (where / "params").rglob("*") if path.is_file())
    if size > max(_SMALL, MAX_INFLATION * on_disk):
        raise UserError(f"metadata declares arrays of {size} bytes, its files have {on_disk}")
    params = _read_arrays(where / "params", expected, metadata["hash"])
    if not all(np.isfinite(array).all() for array in jax.tree.leaves(params)):
        raise UserError("some parameters are not finite")
    return Checkpoint(params, model, metadata, where)


def _declared_model(declared: dict) -> ModelConfig:
    defaults = dataclasses.asdict(ModelConfig(num_items=1))
    if set(declared) != set(defaults):
        raise UserError(f"metadata declares a model with other fields than {', '.join(defaults)}")
    declared = declared | {name: tuple(value) for name, value in declared.items() if isinstance(value, list)}
    for name, default in defaults.items():
        value, kind = declared[name], type(default)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UserError(f"metadata declares {name}={value!r:.40}, which is no {kind.__name__}")
    sizes = declared["profile_sizes"]
    if not all(type(size) is int and size > 0 for size in sizes) or (declared["prompt_length"] and not sizes):
        raise UserError(f"metadata declares profile_sizes={sizes!r:.40}, which are not all sizes")
    if max(declared["num_layers"], len(sizes)) > MAX_LAYERS:
        raise UserError(f"metadata declares {declared['num_layers']} layers and {len(sizes)} attributes, over {MAX_LAYERS}")
    return ModelConfig(**declared)


def _read_arrays(folder: Path, expected, digest: str):
    """The tree of numpy arrays stored in `folder`, of the names, shapes and dtypes of `expected` and with this content hash."""

    def read(path: tuple, wanted) -> np.ndarray:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        database = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder.absolute()}{os.sep}"}, "path": f"{name}/"}
        try:
            stored = ts.open({"driver": "zarr", "kvstore": database}, open=True, read=True).result()
            found, chunk = f"{stored.dtype.name}{list(stored.shape)}", stored.chunk_layout.read_chunk.shape or ()
            if found != (right := f"{wanted.dtype}{list(np.shape(wanted))}"):
                raise UserError(f"array {name} is {found}, the model has {right}")
            if any(part > max(whole, 1) for part, whole in zip(chunk, stored.shape, strict=True)):
                raise UserError(f"array {name} is stored in pieces larger than itself")
            return stored.read().result()
        except UserError:
            raise
        except Exception as error:  # whatever TensorStore stumbles over in files of any content
            raise UserError(f"damaged checkpoint, array {name} is missing or not readable ({_first_line(error)})") from error

    tree = jax.tree_util.tree_map_with_path(read, expected)
    if content_hash(tree) != digest:
        raise UserError(f"damaged checkpoint, {folder.name} do not have the recorded content hash")
    return tree


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120]
