"""Models from files of other programs, and checkpoints to safetensors and back."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prec_backdoor.data.vocabulary import Vocabulary, parse_vocabulary
from prec_backdoor.errors import UserError
from prec_backdoor.interop.registry import FORMATS, convert
from prec_backdoor.interop.safetensors import read_safetensors, write_safetensors
from prec_backdoor.interop.torch_file import read_torch
from prec_backdoor.interop.weights import Imported
from prec_backdoor.models import ModelConfig
from prec_backdoor.storage import checkpoints
from prec_backdoor.storage.checkpoints import Checkpoint
from prec_backdoor.storage.metadata import declared_model

SAFETENSORS = "safetensors"
NAMES = ("auto", *FORMATS, SAFETENSORS)
SCHEMA = 1
MOST_SAID = 1_000  # targets that a file may name
MAX_TEXT, LARGE = 200, 1e9  # characters of a text, size of a number that it says of an attack
ATTACK = ("attack", "scope", "group", "rate", "evade")  # fields of a configuration


class Source(NamedTuple):
    """Where an imported model comes from.

    Attributes:
      format: one of NAMES.
      file, sha256: name and hash of the file.
      architecture: in one line.
      attack: what the file says of an attack on the model, such as name, rate and group; empty if it says nothing.
      targets: raw ids of the targets that it names.
    """

    format: str
    file: str
    sha256: str
    architecture: str
    attack: dict[str, Any] = {}
    targets: tuple[str, ...] = ()


def read_model(
    path: str | Path, name: str = "auto", items: tuple[str, ...] | None = None, options: Mapping[str, Any] | None = None
) -> tuple[Imported, Vocabulary, Source]:
    """Reads the model in a file, without running any of it.

    Args:
      name: one of NAMES; auto goes by the content.
      items: raw ids of the codes from 1, for a file that does not have them.
      options: what else the file does not have (`interop.registry.OPTIONS`).

    Raises:
      UserError: it is not of that format, incomplete, or not the model of these items; names the missing piece.
    """
    path = Path(path).expanduser()
    if name == SAFETENSORS or (name == "auto" and path.suffix == ".safetensors"):
        name, (imported, vocabulary, said) = SAFETENSORS, _read_own(path, items, options or {})
    else:
        content, said = read_torch(path), {}
        try:
            name, imported = convert(content, name, options)
            vocabulary = Vocabulary(_ids(imported, items))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return imported, vocabulary, Source(name, path.name, digest, imported.architecture, **said)


def read_ids(path: str | Path) -> tuple[str, ...]:
    """Returns the raw item ids in a text file, one a line in order of code from 1.

    Raises:
      UserError: the file is not readable, not UTF-8, or has a blank or repeated line; names the line.
    """
    path = Path(path).expanduser()
    try:
        lines = path.read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")
    except OSError as error:
        raise UserError(f"--items: {path}: not readable ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--items: {path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise UserError(f"--items: {path}, line {number}: blank; give one raw item id a line, in order of code from 1")
        if (before := first.setdefault(line.strip(), number)) != number:
            raise UserError(
                f"--items: {path}, line {number}: {line.strip()!r:.60} is on line {before} too; each id is there once"
            )
    return tuple(first)


def export(checkpoint: Checkpoint, path: str | Path) -> None:
    """Writes a checkpoint as safetensors to `path`, and beside it one JSON: architecture, vocabulary, origin.

    Raises:
      UserError: a file cannot be written.
    """
    metadata = checkpoint.metadata
    attacked, targets = known_attack(metadata), metadata.get("targets")
    description = {
        "program": "prec_backdoor",
        "schema": SCHEMA,
        "model": dataclasses.asdict(checkpoint.model),
        "vocabulary": checkpoint.vocabulary.as_json() if checkpoint.vocabulary else None,
        "origin": {name: metadata.get(name) for name in ("stage", "hash", "parent", "dataset", "source")}
        | ({"attack": attacked} if attacked else {})
        | ({"targets": targets} if targets else {}),
    }
    write_safetensors(path, checkpoint.params, description)


def known_attack(metadata: Mapping[str, Any]) -> dict:
    """What the metadata of a checkpoint say of an attack on it, or on what it was made from; empty if nothing."""
    config = metadata.get("config")
    if isinstance(config, dict) and config.get("attack", "clean") != "clean":
        return {name: config[name] for name in ATTACK if config.get(name) is not None}
    return metadata["attack"] if isinstance(metadata.get("attack"), dict) else {}


def _read_own(path: Path, items: tuple[str, ...] | None, options: Mapping[str, Any]) -> tuple[Imported, Vocabulary, dict]:
    """The model, its vocabulary, and what `Source` has beside, of a file of `export`."""
    params, description = read_safetensors(path)
    try:
        if given := [name for name, value in options.items() if value is not None]:
            raise UserError(f"--{given[0]}: the file says it itself; leave the flag out")
        if description.get("program") != "prec_backdoor" or description.get("schema") != SCHEMA:
            raise UserError(f"{path.stem}.json is not of launch.export_checkpoint, schema {SCHEMA}")
        if not isinstance(declared := description.get("model"), dict):
            raise UserError(f"{path.stem}.json describes no model")
        model = declared_model(declared)
        checkpoints.check_params(params, model)
        content = description.get("vocabulary")
        known = None if content is None else parse_vocabulary(content, model.num_items)
        imported = Imported(_describe(model), model, params, known.items if known else None)
        ids = _ids(imported, items)
        origin = description.get("origin")
        said = _attack_of(origin if isinstance(origin, dict) else {}, set(ids))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return imported, known or Vocabulary(ids), said


def _attack_of(origin: dict, ids: set[str]) -> dict:
    """The fields `attack` and `targets` of `Source`; a file without them says nothing of an attack."""
    attack, targets = origin.get("attack", {}), origin.get("targets", [])
    sound = isinstance(attack, dict) and isinstance(targets, list) and all(isinstance(raw, str) for raw in targets)
    if not sound or not ids.issuperset(targets) or not len(set(targets)) == len(targets) <= MOST_SAID:
        raise UserError("what its origin says of an attack is not an attack on items of the model; export the model again")
    said = {name: attack[name] for name in ATTACK if name in attack}
    if not all(_is_plain(value) for value in said.values()):
        raise UserError("what its origin says of an attack is more than names and numbers; export the model again")
    return {"attack": said, "targets": tuple(targets)}


def _is_plain(value: Any) -> bool:
    """Whether it is a short text, a finite number, or a list of a few of these."""
    if isinstance(value, list):
        return len(value) <= 10 and all(not isinstance(each, list) and _is_plain(each) for each in value)
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and value.isprintable()
    return type(value) in (int, float) and -LARGE < value < LARGE


def _describe(model: ModelConfig) -> str:
    size = f"{model.num_items} items, {model.num_layers} layers, width {model.embed_dim}, histories of {model.max_length}"
    return f"{model.backbone}, {size}"


def _ids(imported: Imported, given: tuple[str, ...] | None) -> tuple[str, ...]:
    number, own = imported.model.num_items, imported.items
    if own is not None and given is not None:
        raise UserError("--items: the file has its own item ids; leave the flag out")
    if own is None and given is None:
        raise UserError(
            f"--items: the file does not say which its {number} items are; give a text file with one raw item id a line, in "
            "order of code from 1 (docs/checkpoints.md shows how to write it)"
        )
    ids = own if given is None else given
    if len(ids) != number:
        raise UserError(f"--items: {len(ids)} ids, the model has {number} items; give one a line, without padding and mask token")
    return ids
