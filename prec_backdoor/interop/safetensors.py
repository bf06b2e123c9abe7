"""A model as two files that any program can read: NAME.safetensors, float32 tensors by path, and NAME.json beside it."""

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from prec_backdoor.errors import UserError
from prec_backdoor.storage.files import replacing

MAX_JSON_BYTES = 1 << 28
MAX_TENSORS, MAX_DEPTH = 10_000, 8


def write_safetensors(path: str | Path, params: dict, description: dict) -> None:
    """Writes `params`, nested dicts of float32 arrays, and beside it `description` (JSON-like) with the SHA-256 of the tensors.

    Raises:
      UserError: a file cannot be written.
    """
    path = Path(path).expanduser()
    tensors = {name: np.ascontiguousarray(array) for name, array in _flat(params).items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            save_file(tensors, partial)
            partial.chmod(partial.parent.stat().st_mode & 0o666)  # it is its owner's alone, unlike other new files
            digest = _sha256(partial)
        with replacing(path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps({"sha256": digest, **description}, indent=1, ensure_ascii=False), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def read_safetensors(path: str | Path) -> tuple[dict, dict]:
    """Returns the params and the description that `write_safetensors` wrote.

    Raises:
      UserError: a file is missing or damaged, they are not of one model, or a tensor is not float32.
    """
    path = Path(path).expanduser()
    try:
        description = _description(path.with_suffix(".json"))
        if not path.is_file():
            raise UserError("no such file")
        if description.pop("sha256", None) != _sha256(path):
            raise UserError(f"the tensors are not those that {path.stem}.json declares; copy both files again")
        return _tensors(path), description
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, SafetensorError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:80]
        raise UserError(f"{path}: no safetensors file ({reason}); copy it again") from error


def _tensors(path: Path) -> dict:
    params: dict = {}
    with safe_open(path, framework="numpy") as file:
        names = list(file.keys())
        if len(names) > MAX_TENSORS:
            raise UserError(f"{len(names)} tensors, more than {MAX_TENSORS}")
        for name in names:
            *folders, leaf = name.split("/")
            if len(folders) > MAX_DEPTH or not all((*folders, leaf)) or file.get_slice(name).get_dtype() != "F32":
                raise UserError(f"tensor {name[:80]!r} is not float32, or not a name of this program's")
            target = params
            for folder in folders:
                target = target.setdefault(folder, {}) if isinstance(target, dict) else None
            if not isinstance(target, dict) or leaf in target:
                raise UserError(f"tensor {name[:80]!r} is within another tensor")
            target[leaf] = file.get_tensor(name)
    return params


def _description(path: Path) -> dict:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"{path.name} has more than {MAX_JSON_BYTES} bytes")
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path.name} is missing, which describes the model; copy both files into one folder") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name} is no JSON; copy it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path.name} does not describe a model; copy it again")
    return found


def _flat(params: dict, above: str = "") -> dict[str, np.ndarray]:
    found = {}
    for name, value in params.items():
        found |= _flat(value, f"{above}{name}/") if isinstance(value, dict) else {f"{above}{name}": np.asarray(value, np.float32)}
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
