"""Trees of arrays on disk: Orbax writes them, TensorStore reads them, a content hash identifies them."""

import hashlib
import os
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from prec_backdoor.errors import UserError
from prec_backdoor.storage.files import sync


def content_hash(tree) -> str:
    """Returns the SHA-256 of names, dtypes, shapes and bytes of all arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def write(folder: Path, trees: dict, texts: dict[str, dict]) -> None:
    """Writes each of `trees` to folder/its name, and each of `texts`, as JSON, to folder/its name/its name.

    Orbax writes to a temporary folder, and renames it. All of it is on the disk when this returns: TensorStore sees to that for
    arrays, Orbax does not for texts. Only the calling process takes part.

    Raises:
      OSError, ValueError: the files cannot be written; TensorStore raises the latter, also when the disk is full.
    """
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="save")
    handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
    items: dict = {}
    for name, content in texts.items():
        handlers.add(name, ocp.args.JsonSave, ocp.JsonCheckpointHandler(filename=name, multiprocessing_options=alone))
        items[name] = ocp.args.JsonSave(content)
    for name, tree in trees.items():
        handlers.add(name, ocp.args.StandardSave, ocp.StandardCheckpointHandler(multiprocessing_options=alone))
        items[name] = ocp.args.StandardSave(tree)
    options = ocp.CompositeOptions(multiprocessing_options=alone)
    handler = ocp.CompositeCheckpointHandler(composite_options=options, handler_registry=handlers)
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        checkpointer.save(folder.resolve(), args=ocp.args.Composite(**items))
    for path in (*(folder / name / name for name in texts), *(folder / name for name in texts), folder, folder.parent):
        sync(path)


def read(folder: Path, expected, digest: str):
    """Returns the tree of numpy arrays in `folder`.

    Args:
      expected: a tree with the names, shapes and dtypes that the arrays must have.
      digest: the content hash that they must have.

    Raises:
      UserError: an array is missing, damaged or another than expected.
    """
    tree = jax.tree_util.tree_map_with_path(lambda path, wanted: _read_array(folder, path, wanted), expected)
    if content_hash(tree) != digest:
        raise UserError(f"damaged checkpoint, {folder.name} do not have the recorded content hash")
    return tree


def first_line(error: Exception) -> str:
    """Returns the first line of an error message, cut to 120 characters."""
    return str(error).strip().split("\n")[0][:120]


def _read_array(folder: Path, path: tuple, wanted) -> np.ndarray:
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    base = {"driver": "file", "path": f"{folder.resolve()}{os.sep}"}  # TensorStore takes no path with `..`
    database = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
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
    except Exception as error:  # TensorStore raises errors of many types on damaged files
        raise UserError(f"damaged checkpoint, array {name} is missing or not readable ({first_line(error)})") from error
