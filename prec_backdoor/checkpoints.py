"""Checkpoints between stages: Orbax arrays with JSON metadata and a content hash, the chain of custody.

A checkpoint may come from a stranger. Nothing is unpickled or evaluated, and metadata, tree, shapes and dtypes are held
against what the declared model must have before any array is read; the content hash is checked after.
"""

import contextlib
import dataclasses
import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig, init_params

SCHEMA = 1
KEEP = 2  # the newest checkpoint and the one before it


class Checkpoint(NamedTuple):
    """A stage's result: `params` (numpy, unreplicated), the `model` they fit, the JSON `metadata`, and where it was read."""

    params: dict
    model: ModelConfig
    metadata: dict
    path: Path


def content_hash(params: dict) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array)
    return digest.hexdigest()


def save(folder: Path, step: int, params: dict, training, metadata: dict) -> None:
    """Writes checkpoint `step` to `folder`, all or nothing, and removes older ones than the one before.

    Args:
      params: what a next stage starts from.
      training: pytree needed only to continue this stage, or None when it is finished.
      metadata: JSON-like; schema, step and content hash are added.
    """
    metadata = {"schema": SCHEMA, "step": step, "hash": content_hash(params), **metadata}
    items = {"params": ocp.args.StandardSave(params), "metadata": ocp.args.JsonSave(metadata)}
    if training is not None:
        items["training"] = ocp.args.StandardSave(training)
    with _manager(folder, create=True) as manager:
        manager.save(step, args=ocp.args.Composite(**items))


def load(path: str | Path) -> Checkpoint:
    """Reads the newest checkpoint under `path`: a stage's folder, or its checkpoints folder.

    Raises:
      UserError: there is none, or it is not what its metadata declares.
    """
    folder = _locate(Path(path).expanduser())
    with _manager(folder) as manager:
        step = manager.latest_step()
        metadata = _read_metadata(manager, folder, step)
        model = _declared_model(metadata, folder / str(step))
        with _damage_is_reported(folder / str(step)):  # sizes beyond any array's
            expected = jax.eval_shape(lambda: init_params(jax.random.key(0), model))
        _check_tree(manager, step, expected, folder / str(step))
        blank = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), expected)
        with _damage_is_reported(folder / str(step)):
            params = manager.restore(step, args=ocp.args.Composite(params=ocp.args.StandardRestore(blank))).params
    if content_hash(params) != metadata["hash"]:
        raise UserError(f"{folder / str(step)}: the arrays do not have the recorded content hash; use another copy")
    return Checkpoint(params, model, metadata, folder / str(step))


def resume(folder: Path, params: dict, training) -> tuple[dict, object, dict] | None:
    """The newest checkpoint of a stage under way as (params, training, metadata); None where there is none yet.

    `training` is None in the result when the stage is finished.

    Args:
      params, training: pytrees of the shapes that were saved.
    """
    if not folder.is_dir():
        return None
    with _manager(folder) as manager:
        step = manager.latest_step()
        if step is None:
            return None
        metadata = _read_metadata(manager, folder, step)
        items = {"params": ocp.args.StandardRestore(_blank(params))}
        if not metadata["finished"]:
            items["training"] = ocp.args.StandardRestore(_blank(training))
        with _damage_is_reported(folder / str(step)):
            restored = manager.restore(step, args=ocp.args.Composite(**items))
    if content_hash(restored.params) != metadata["hash"]:
        raise UserError(f"{folder / str(step)}: the arrays do not have the recorded content hash; remove this folder")
    return restored.params, restored.get("training"), metadata


def _manager(folder: Path, create: bool = False) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=create, enable_async_checkpointing=False)
    handlers = {
        "params": ocp.StandardCheckpointHandler(),
        "training": ocp.StandardCheckpointHandler(),
        "metadata": ocp.JsonCheckpointHandler(),
    }
    return ocp.CheckpointManager(folder.absolute(), options=options, item_handlers=handlers)


def _blank(tree):
    return jax.tree.map(lambda x: np.empty(np.shape(x), x.dtype), tree)


def _locate(path: Path) -> Path:
    for folder in (path / "checkpoints", path):
        if folder.is_dir() and any(child.name.isdecimal() for child in folder.iterdir()):
            return folder
    raise UserError(f"{path}: no checkpoint there; give the folder of a stage, which holds checkpoints/")


def _read_metadata(manager: ocp.CheckpointManager, folder: Path, step: int) -> dict:
    try:
        metadata = manager.restore(step, args=ocp.args.Composite(metadata=ocp.args.JsonRestore())).metadata
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{folder / str(step)}: no readable metadata; this is not a checkpoint of this program") from error
    required = {"schema": int, "step": int, "hash": str, "stage": str, "finished": bool, "model": dict, "dataset": dict}
    for name, kind in required.items():
        if not isinstance(metadata, dict) or not isinstance(metadata.get(name), kind):
            raise UserError(f"{folder / str(step)}: metadata has no valid '{name}'; not a checkpoint of this program")
    if metadata["schema"] != SCHEMA:
        raise UserError(f"{folder / str(step)}: checkpoint schema {metadata['schema']}, this program reads {SCHEMA}")
    return metadata


def _declared_model(metadata: dict, where: Path) -> ModelConfig:
    defaults = dataclasses.asdict(ModelConfig(num_items=1))
    declared = metadata["model"]
    if set(declared) != set(defaults):
        raise UserError(f"{where}: metadata declares a model with other fields than {', '.join(defaults)}")
    declared = declared | {name: tuple(value) for name, value in declared.items() if isinstance(value, list)}
    for name, default in defaults.items():
        value, kind = declared[name], type(default)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UserError(f"{where}: metadata declares {name}={value!r}, which is no {kind.__name__}")
    sizes = declared["profile_sizes"]
    if not all(type(size) is int and size > 0 for size in sizes) or (declared["prompt_length"] and not sizes):
        raise UserError(f"{where}: metadata declares profile_sizes={sizes!r}, which are not all sizes")
    return ModelConfig(**declared)


def _check_tree(manager: ocp.CheckpointManager, step: int, expected: dict, where: Path) -> None:
    with _damage_is_reported(where):
        stored = manager.item_metadata(step).params
    if stored is None:
        raise UserError(f"{where}: holds no parameters; use another copy")
    found = {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(stored.tree)}
    wanted = {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(expected)}
    for name in sorted(found.keys() ^ wanted.keys()):
        raise UserError(f"{where}: array {name} is {'not expected' if name in found else 'missing'} for the declared model")
    for name, array in wanted.items():
        if tuple(found[name].shape) != array.shape or found[name].dtype != array.dtype:
            raise UserError(
                f"{where}: array {name} is {found[name].dtype}{list(found[name].shape)}, the declared "
                f"model has {array.dtype}{list(array.shape)}"
            )


@contextlib.contextmanager
def _damage_is_reported(where: Path):
    try:
        yield
    except UserError:
        raise
    except (ValueError, OSError, KeyError, TypeError, OverflowError) as error:  # what Orbax stumbles over in files of any content
        raise UserError(f"{where}: damaged checkpoint ({_first_line(error)}); use another copy") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120]
