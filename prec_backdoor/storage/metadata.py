"""The JSON metadata of a checkpoint: written with a digest, and checked before anything that they declare is believed."""

import dataclasses
import hashlib
import json
from pathlib import Path

from prec_backdoor.errors import UserError
from prec_backdoor.models import BACKBONES, ModelConfig, backbone_parameters

SCHEMA = 3
_SINCE_3 = {"scoring": "dot", "output_items": False, "output_bias": False}  # fields of models, and what they were before
MAX_JSON_BYTES = 1 << 20
MAX_LAYERS = 256  # each takes time to trace, however small
_REQUIRED = {"schema": int, "step": int, "hash": str, "stage": str, "finished": bool, "model": dict, "dataset": dict}


def with_digest(metadata: dict) -> dict:
    """Returns the metadata with "digest", the SHA-256 of all other entries."""
    return {**metadata, "digest": _digest(metadata)}


def read(path: Path) -> dict:
    """Returns the metadata in a file.

    Raises:
      UserError: they are damaged, or not those of a checkpoint of this program.
    """
    try:
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            raise UserError(f"metadata of {size} bytes; no checkpoint of this program has more than {MAX_JSON_BYTES}")
        metadata = json.loads(path.read_bytes())
        digest = _digest(metadata) if isinstance(metadata, dict) else None
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(_foreign_or_damaged(path)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("damaged checkpoint, no readable metadata") from error
    if isinstance(metadata, dict) and "digest" in metadata and metadata["digest"] != digest:
        raise UserError("damaged checkpoint, the metadata do not have the recorded digest")
    for name, kind in _REQUIRED.items():
        if not isinstance(metadata, dict) or not isinstance(metadata.get(name), kind):
            raise UserError(f"metadata has no valid '{name}'; not a checkpoint of this program")
    if metadata["schema"] not in (2, SCHEMA):
        raise UserError(f"checkpoint schema {str(metadata['schema'])[:9]}, this program reads 2 and {SCHEMA}")
    if "digest" not in metadata:
        raise UserError("damaged checkpoint, the metadata have no digest")
    return metadata if metadata["schema"] == SCHEMA else _of_schema_3(metadata)


def _of_schema_3(metadata: dict) -> dict:
    """Returns metadata of schema 2 as they are written today."""
    model = metadata["model"] | _SINCE_3 | {"parameters": {}}
    config = metadata.get("config")
    return metadata | {"model": model} | ({"config": config | _SINCE_3} if isinstance(config, dict) and config else {})


def _foreign_or_damaged(path: Path) -> str:
    """What to say of a step without metadata: ours has a folder for params beside them."""
    if (path.parent.parent / "params").is_dir():
        return "damaged checkpoint, no readable metadata"
    return "not a checkpoint of this program; launch.import_checkpoint reads those of others"


def declared_model(declared: dict) -> ModelConfig:
    """Returns the model that the metadata declare.

    Raises:
      UserError: a field is missing or unknown, or its value is impossible.
    """
    defaults = dataclasses.asdict(ModelConfig(num_items=1)) | {"parameters": {}}
    if set(declared) != set(defaults):
        raise UserError(f"metadata declares a model with other fields than {', '.join(defaults)}")
    declared = declared | {name: tuple(value) for name, value in declared.items() if isinstance(value, list)}
    _check_types(declared, defaults)
    if declared["backbone"] not in BACKBONES:
        raise UserError(f"--backbone: must be one of {', '.join(BACKBONES)}, got {declared['backbone']!r:.40}")
    _check_types(declared["parameters"], {name: value for name, (value, _) in backbone_parameters(declared["backbone"]).items()})
    sizes = declared["profile_sizes"]
    if not all(type(size) is int and size > 0 for size in sizes) or (declared["prompt_length"] and not sizes):
        raise UserError(f"metadata declares profile_sizes={sizes!r:.40}, which are not all sizes")
    if max(declared["num_layers"], len(sizes)) > MAX_LAYERS:
        raise UserError(f"metadata declares {declared['num_layers']} layers and {len(sizes)} attributes, over {MAX_LAYERS}")
    return ModelConfig(**declared)


def _check_types(declared: dict, defaults: dict) -> None:
    """Raises a UserError if a value has no name of `defaults`, or another type than there."""
    for name, value in declared.items():
        if name not in defaults:
            raise UserError(f"metadata declares {name!r:.40}, which its backbone does not have")
        kind = type(defaults[name])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UserError(f"metadata declares {name}={value!r:.40}, which is no {kind.__name__}")


def _digest(metadata: dict) -> str:
    content = {name: value for name, value in metadata.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
