"""The files of a zoo: what is handed out, and the truth, which is not.

index.json                      the models, and the SHA-256 of the truth: handed out
models/NAME/model.safetensors   and model.json, as of launch.export_checkpoint
models/NAME/interactions.csv    of the downstream users; profiles.csv, catalogue.csv
truth.json                      which models are attacked, and how: kept
work/                           the seed, rows of finished models, checkpoints of the one under way: kept
"""

import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from prec_backdoor.errors import UserError
from prec_backdoor.storage.workdir import as_path, replacing

SCHEMA = 1
VERDICTS, ITEM_SCORES = ("model", "p_backdoored"), ("model", "item", "score")


def write_seal(folder: str | Path, published: list[dict], truth: list[dict], about: dict) -> str:
    """Writes truth.json, then index.json with its SHA-256, which it returns.

    Args:
      published: what the index says of each model; `truth` is the rest, in the same order.
      about: of the dataset.
    """
    folder = as_path(folder)
    content = json.dumps({"schema": SCHEMA, "models": truth}, indent=1, ensure_ascii=False).encode()
    digest = hashlib.sha256(content).hexdigest()
    index = {"schema": SCHEMA, "dataset": about, "truth_sha256": digest, "models": published}
    for name, each in (("truth.json", content), ("index.json", json.dumps(index, indent=1, ensure_ascii=False).encode())):
        with replacing(folder / name) as partial:
            partial.write_bytes(each)
    return digest


def read_index(folder: str | Path) -> dict[str, Any]:
    """Returns index.json of a zoo.

    Raises:
      UserError: there is none, or it is not one of a zoo.
    """
    path = as_path(folder) / "index.json"
    content = _read_json(path, "a zoo's index; give the --workdir of a finished launch.make_zoo")
    if content.get("schema") != SCHEMA or not isinstance(content.get("truth_sha256"), str):
        raise UserError(f"{path}: not the index of a zoo of schema {SCHEMA}; make the zoo again")
    return content


def read_truth(folder: str | Path, path: str | Path | None = None) -> list[dict]:
    """Returns the truth of each model of the zoo in `folder`, from `path` or its own truth.json; the hash of the index seals it.

    Raises:
      UserError: no such file, or not the one that the index was sealed with.
    """
    index, path = read_index(folder), as_path(path) if path else as_path(folder) / "truth.json"
    content = _read_json(path, "the truth of a zoo; give the file that was kept by --truth")
    if hashlib.sha256(path.read_bytes()).hexdigest() != index["truth_sha256"]:
        raise UserError(f"{path}: not the truth that this zoo was sealed with (its SHA-256 is another); give that file")
    return content["models"]


def read_verdicts(path: str | Path, models: list[str]) -> np.ndarray:
    """Returns [N] p_backdoored of each of the models, from a CSV with columns model, p_backdoored.

    Raises:
      UserError: a row is wrong, missing or there twice; names the line or the models.
    """
    found: dict[str, float] = {}
    for line, row in _rows(path, VERDICTS):
        name, value = row["model"], _number(path, line, "p_backdoored", row["p_backdoored"])
        if name not in models:
            raise UserError(f"{path}, line {line}: the zoo has no model {name!r:.60}; its names are like {models[0]!r}")
        if name in found:
            raise UserError(f"{path}, line {line}: {name} is there twice; give each model once")
        if not 0 <= value <= 1:
            raise UserError(
                f"{path}, line {line}: expected a probability from 0 to 1 as p_backdoored, found {value:g}; correct it"
            )
        found[name] = value
    if missing := [name for name in models if name not in found]:
        raise UserError(f"{path}: no row for {len(missing)} of {len(models)} models, such as {missing[0]}; give one for each")
    return np.array([found[name] for name in models])


def read_item_scores(path: str | Path, truth: list[dict]) -> dict[str, dict[str, float]]:
    """Returns model -> item -> score of the attacked models, from a CSV with columns model, item, score; others may be missing.

    Raises:
      UserError: a row is wrong or there twice, or an item of an attacked model is missing.
    """
    items = {each["model"]: set(each["items"]) for each in truth}
    found: dict[str, dict[str, float]] = {name: {} for name in items}
    for line, row in _rows(path, ITEM_SCORES):
        name, item, value = row["model"], row["item"], _number(path, line, "score", row["score"])
        if name not in items:
            raise UserError(f"{path}, line {line}: the zoo has no model {name!r:.60}; its names are like {next(iter(items))!r}")
        if item not in items[name]:
            raise UserError(f"{path}, line {line}: {name} has no item {item!r:.60}; its ids are those of model.json")
        if item in found[name]:
            raise UserError(f"{path}, line {line}: item {item} of {name} is there twice; give each once")
        found[name][item] = value
    for each in truth:
        name = each["model"]
        if each["backdoored"] and len(found[name]) < len(items[name]):
            number = len(items[name]) - len(found[name])
            raise UserError(f"{path}: {name} lacks a score for {number} of its {len(items[name])} items; give one for each item")
    return {each["model"]: found[each["model"]] for each in truth if each["backdoored"]}


def _read_json(path: Path, what: str) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("models"), list):
            raise ValueError
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file, which would be {what}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged, or not {what}") from error
    return content


def _rows(path: str | Path, columns: tuple[str, ...]):
    """Yields (line, row) of a CSV file with these columns, and perhaps others."""
    path = Path(path).expanduser()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                shown = ", ".join(reader.fieldnames or ()) or "nothing"
                raise UserError(
                    f"{path}, line 1: no column {missing[0]!r}, found {shown:.120}; name the columns {','.join(columns)}, with "
                    "commas and without spaces"
                )
            if twice := [name for name in columns if reader.fieldnames.count(name) > 1]:
                raise UserError(f"{path}, line 1: column {twice[0]!r} is there twice; leave one out")
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(f"{path}, line {reader.line_num}: expected {len(reader.fieldnames)} fields; correct the line")
                yield reader.line_num, row
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: a folder; give the CSV file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV file in UTF-8 ({error}); export it again") from error


def _number(path: str | Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text) if "_" not in text else math.nan  # Python reads 0_1 as 1
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}, line {line}: expected a number as {name}, found {text!r:.40}; correct it")
    return value
