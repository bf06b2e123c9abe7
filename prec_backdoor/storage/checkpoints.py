"""Checkpoints between stages: arrays with JSON metadata and content hashes, the chain of custody.

A checkpoint may be damaged, or come from a stranger (docs/threat-model.md). Orbax writes; reading is done here: nothing is
unpickled or evaluated, links are not followed, metadata, names, shapes, dtypes and sizes are compared with those of the declared
model before any array is read, and content hashes after.
"""

import errno
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

from prec_backdoor.data.vocabulary import Vocabulary, hash_of, parse_vocabulary
from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig, init_params
from prec_backdoor.storage import arrays
from prec_backdoor.storage import metadata as metadata_file
from prec_backdoor.storage.arrays import content_hash, first_line

KEEP = 2  # the newest checkpoint and the one before it
MAX_INFLATION = 10  # bytes of all arrays to bytes on disk; trained weights hardly compress
MAX_ITEM_BYTES = 8_000  # of a vocabulary, for each item: id and title of 1,000 characters, of up to 4 bytes each
_SMALL = 1 << 24  # bytes of arrays below which the size on disk is not checked


class Checkpoint(NamedTuple):
    """A stage's result: `params` (numpy, unreplicated), the `model` they fit, the JSON `metadata`, and where it was read.

    `vocabulary` is what its codes mean, or None where the checkpoint has none.
    """

    params: dict
    model: ModelConfig
    metadata: dict
    path: Path
    vocabulary: Vocabulary | None = None


def save(folder: str | Path, step: int, params: dict, training, metadata: dict, vocabulary: Vocabulary | None = None) -> None:
    """Writes checkpoint `step` to `folder`, whole or not at all, and keeps the newest one before it.

    Removes later checkpoints, which `resume` found damaged when it fell back, and leftovers of unfinished saves.

    Args:
      params: what a next stage starts from.
      training: pytree needed only to continue this stage, or None when it is finished.
      metadata: JSON-like; schema, step, content hashes and the digest of all this are added.
      vocabulary: what the codes of the model mean.

    Raises:
      UserError: the files cannot be written, as on a full disk; the checkpoint before this one is kept.
    """
    folder = Path(folder).expanduser()
    trees = {"params": params} if training is None else {"params": params, "training": training}
    hashes = {"hash": content_hash(params), "training_hash": None if training is None else content_hash(training)}
    hashes["vocabulary_hash"] = None if vocabulary is None else vocabulary.hash()
    metadata = metadata_file.with_digest({"schema": metadata_file.SCHEMA, "step": step, **hashes, **metadata})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unsound(folder, step)
        if shutil.disk_usage(folder).free < sum(leaf.nbytes for leaf in jax.tree.leaves(trees)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # before Orbax fails in many threads, each with a message
        texts = {"metadata": metadata} | ({} if vocabulary is None else {"vocabulary": vocabulary.as_json()})
        arrays.write(folder / str(step), trees, texts)
    except (OSError, ValueError) as error:
        _remove_unsound(folder, step)
        code = re.search(r"os_error_code='(\d+)'", str(error))
        reason = os.strerror(int(code[1])) if code else getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"{folder / str(step)}: the checkpoint cannot be written ({reason}); make room or mend the path, then run the same "
            "command again: it continues from the checkpoint before"
        ) from error
    for old in _steps(folder)[KEEP:]:
        shutil.rmtree(folder / str(old), ignore_errors=True)


def load(path: str | Path, finished: bool = False) -> Checkpoint:
    """Reads the newest checkpoint under `path`: a stage's folder, or its checkpoints folder.

    If that one is damaged, stderr says so and the one before it is read: `metadata` has its step and whether it is finished.

    Raises:
      UserError: there is none, or none that is sound and what its metadata declares; it is not `finished` and has to be.
    """
    found = _newest_sound(_locate(Path(path).expanduser()), _read_declared, "use another copy")
    if finished and not found.metadata["finished"]:
        raise UserError(f"{found.path}: the stage was interrupted; run its command again to finish it")
    return found


def metadata_of(path: str | Path) -> dict:
    """Returns the metadata of the newest sound checkpoint under `path`, the arrays unread; raises a UserError as `load` does."""
    return _newest_sound(_locate(Path(path).expanduser()), _read_metadata, "use another copy")


def progress(folder: str | Path) -> dict | None:
    """Returns the metadata of the newest sound checkpoint in a folder, the arrays unread; None before the first one."""
    folder = Path(folder).expanduser()
    return _newest_sound(folder, _read_metadata, f"remove {folder} to start the stage again") if _steps(folder) else None


def resume(folder: str | Path, params: dict, training) -> tuple[dict, object, dict] | None:
    """Returns the newest checkpoint of an unfinished stage as (params, training, metadata); None before the first one.

    `training` is None in the result when the stage is finished. If the newest checkpoint is damaged, stderr says so and the one
    before it is used.

    Args:
      params, training: pytrees of the shapes that were saved.

    Raises:
      UserError: there are checkpoints, and none is sound.
    """
    folder = Path(folder).expanduser()

    def read(where: Path) -> tuple[dict, object, dict]:
        metadata = _read_metadata(where)
        found = arrays.read(where / "params", params, metadata["hash"])
        if metadata["finished"]:
            return found, None, metadata
        return found, arrays.read(where / "training", training, metadata["training_hash"]), metadata

    return _newest_sound(folder, read, f"remove {folder} to start the stage again") if _steps(folder) else None


def _newest_sound(folder: Path, read: Callable, remedy: str):
    """Returns read(folder of the newest step that is sound); `read` raises a UserError for one that is not."""
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
    """Returns the steps of all checkpoints in `folder`, sound or not, newest first."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if name.isdecimal() and name == str(int(name))), reverse=True)


def _remove_unsound(folder: Path, step: int) -> None:
    """Removes checkpoints from `step` on, and leftovers of unfinished saves."""
    if jax.process_index():
        return
    later = [folder / str(number) for number in _steps(folder) if number >= step]
    for path in (*later, *folder.glob("*.orbax-checkpoint-tmp*")):
        shutil.rmtree(path, ignore_errors=True)


def _locate(path: Path) -> Path:
    for folder in (path / "checkpoints", path):
        if _steps(folder):
            return folder
    raise UserError(f"{path}: no checkpoint there; {_instead_of(path)}")


def _instead_of(path: Path) -> str:
    """Returns what to give instead of a path without checkpoints."""
    if path.is_file():
        return "a file of another program is first imported: launch.import_checkpoint"
    if path.parent.name == "checkpoints" and _steps(path.parent):
        return f"give {path.parent.parent}, the folder of the stage"
    below = sorted(each.parent for each in path.glob("*/checkpoints") if _steps(each)) if path.is_dir() else []
    return f"give {' or '.join(map(str, below[:3]))}" if below else "give the folder of a stage, which holds checkpoints/"


def _check_files(where: Path) -> None:
    """Raises a UserError if a checkpoint holds anything but files and folders: a link leads elsewhere, a pipe blocks."""
    for path in (where, *where.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            inside = path.relative_to(where.parent)
            raise UserError(f"{inside} is a link or no file at all, which no checkpoint of this program has")


def _read_metadata(where: Path) -> dict:
    return metadata_file.read(where / "metadata" / "metadata")


def _read_declared(where: Path) -> Checkpoint:
    metadata = _read_metadata(where)
    model = metadata_file.declared_model(metadata["model"])
    expected = _expected(model)
    size = sum(array.size * array.dtype.itemsize for array in jax.tree.leaves(expected))
    on_disk = sum(path.stat().st_size for path in (where / "params").rglob("*") if path.is_file())
    if size > max(_SMALL, MAX_INFLATION * on_disk):
        raise UserError(f"metadata declares arrays of {size} bytes, its files have {on_disk}")
    params = arrays.read(where / "params", expected, metadata["hash"])
    check_finite(params)
    return Checkpoint(params, model, metadata, where, _read_vocabulary(where, metadata, model.num_items))


def check_params(params: dict, model: ModelConfig) -> None:
    """Raises a UserError unless `params` are parameters of `model`: the same names, shapes and types, and finite."""
    expected = _expected(model)
    found, wanted = (
        {jax.tree_util.keystr(path, simple=True, separator="."): (np.shape(leaf), str(leaf.dtype)) for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (params, expected))
    )
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            has, needs = (f"{each[1]}{list(each[0])}" if each else "missing" for each in (found.get(name), wanted.get(name)))
            raise UserError(f"array {name[:80]} is {has}, in the model it is {needs}")
    check_finite(params)


def check_finite(params: dict) -> None:
    """Raises a UserError if a parameter is not finite."""
    if not all(np.isfinite(array).all() for array in jax.tree.leaves(params)):
        raise UserError("some parameters are not finite")


def _expected(model: ModelConfig) -> dict:
    """The shapes and types of a model's parameters."""
    try:
        return jax.eval_shape(lambda: init_params(jax.random.key(0), model))
    except (ValueError, TypeError, OverflowError) as error:  # sizes beyond any array's
        raise UserError(f"metadata declares a model that cannot be ({first_line(error)})") from error


def _read_vocabulary(where: Path, metadata: dict, num_items: int) -> Vocabulary | None:
    """Returns the vocabulary, if the metadata declare one."""
    if (digest := metadata.get("vocabulary_hash")) is None:
        return None
    path = where / "vocabulary" / "vocabulary"
    try:
        if (size := path.stat().st_size) > (allowed := _SMALL + num_items * MAX_ITEM_BYTES):
            raise UserError(f"a vocabulary of {size} bytes; {num_items} items have at most {allowed}")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("damaged checkpoint, no readable vocabulary") from error
    if hash_of(content) != digest:
        raise UserError("damaged checkpoint, the vocabulary does not have the recorded hash")
    return parse_vocabulary(content, num_items)
