"""Sound checkpoints of other programs, damage to them that gets past checksums, and what must hold of a model read from one."""

import functools
import hashlib
import io
import json
import pickletools
import random
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from prec_backdoor.errors import UserError
from prec_backdoor.interop import read_torch
from prec_backdoor.interop.registry import convert
from prec_backdoor.interop.safetensors import read_safetensors, write_safetensors
from prec_backdoor.interop.weights import Imported
from prec_backdoor.models import init_params

from .mutations import mutated

FIXTURES = Path(__file__).parents[1] / "interop" / "fixtures"
CHECKPOINTS = {  # name of the case -> (file, what a user must say)
    "torch-recbole": ("recbole-sasrec-b.pth", {}),
    "torch-recbole-gru": ("recbole-gru4rec-a.pth", {}),
    "torch-recbole-bert": ("recbole-bert4rec-a.pth", {}),
    "torch-rectools": ("rectools-categories-a.ckpt", {}),
    "torch-gsasrec": ("gsasrec-a.pt", {"num_heads": 1}),
    "torch-pmixer": ("pmixer-fde8a9c-a.pth", {"num_heads": 1, "version": "fde8a9c"}),
}
CANARY = "a-canary-that-nobody-may-touch"
ATTACKS = (  # pickles of these run code
    b"cposix\nsystem\n(X\x24\x00\x00\x00touch " + CANARY.encode() + b"tR",
    b"c__builtin__\neval\n(X\x2e\x00\x00\x00open('" + CANARY.encode() + b"','w')  tR",
    b"\x8c\x02os\x8c\x06system\x93",
    b"(X\x24\x00\x00\x00touch " + CANARY.encode() + b"ios\nsystem\n",
)
FRAGMENTS = (
    *ATTACKS,
    *(
        b"N",
        b"(",
        b".",
        b"0",
        b"1",
        b"2",
        b"]",
        b"}",
        b")",
        b"R",
        b"b",
        b"Q",
        b"\x81",
        b"\x85",
        b"\x86",
        b"\x87",
        b"t",
        b"l",
        b"s",
    ),
    *(b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f", b"K\x00", b"\x8a\x09" + b"\xff" * 8 + b"\x00", b"h\x00", b"h\xff", b"q\x05"),
    *(b"X\xff\xff\xff\x7f", b"X\x00\x00\x00\x00", b"\x88", b"G" + b"\x7f\xf0" + b"\0" * 6, b"\x94", b"e", b"u", b"a", b"\x93"),
)


def read_checkpoint(options: Mapping, folder: Path, skipped) -> Imported:
    """Returns the model in the one file of a folder; a reader as those of datasets are."""
    (path,) = folder.iterdir()
    content = read_torch(path)
    try:
        return _unharmed(convert(content, options=options)[1])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_exported(folder: Path, skipped) -> dict:
    """Returns the tensors of an exported model."""
    return _unharmed(read_safetensors(folder / "model.safetensors")[0])


def _unharmed(found):
    if Path(CANARY).exists():
        Path(CANARY).unlink()
        raise RuntimeError("a checkpoint ran code")
    return found


def broken_checkpoint(found: Imported) -> str:
    """Says what does not hold of a model that was accepted; empty if all does."""
    leaves, vocabulary = jax.tree.leaves(found.params), found.items
    checks = {
        "dtypes": all(leaf.dtype == np.float32 for leaf in leaves),
        "finite": all(np.isfinite(leaf).all() for leaf in leaves),
        "shapes": jax.tree.map(np.shape, found.params) == _shapes(found.model),
        "item ids": vocabulary is None or len(set(vocabulary)) == len(vocabulary) == found.model.num_items,
        "architecture": found.architecture.isprintable() and len(found.architecture) < 300,
    }
    return ", ".join(name for name, holds in checks.items() if not holds)


@functools.lru_cache(maxsize=10_000)
def _shapes(model):
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(lambda: init_params(jax.random.key(0), model)))


def broken_export(found: dict) -> str:
    """See `broken_checkpoint`."""
    return "" if all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found)) else "dtypes"


def exported() -> dict[str, bytes]:
    """The two files of a small exported model."""
    params = {"items": np.arange(8, dtype=np.float32).reshape(4, 2), "encoder": {"norm": {"scale": np.ones(2, np.float32)}}}
    with tempfile.TemporaryDirectory() as folder:
        write_safetensors(Path(folder) / "model.safetensors", params, {"model": {"num_items": 3}})
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def mutated_export(files: dict[str, bytes], separator: bytes, rng: random.Random) -> dict[str, bytes]:
    """`mutated`, after which the description mostly has the hash that the tensors have now."""
    changed = mutated(files, separator, rng)
    if rng.random() < 0.3:  # one byte of a tensor alone
        data = files["model.safetensors"]
        at = len(data) - rng.randrange(1, 33)
        changed = files | {"model.safetensors": data[:at] + rng.randbytes(1) + data[at + 1 :]}
    if len(changed) == len(files) and changed["model.json"] == files["model.json"] and rng.random() < 0.9:
        digest = hashlib.sha256(changed["model.safetensors"]).hexdigest()
        changed["model.json"] = json.dumps({"sha256": digest}).encode()
    return changed


def mutated_checkpoint(files: dict[str, bytes], separator: bytes, rng: random.Random) -> dict[str, bytes]:
    """The file with damage to its bytes, or to its pickle, tensors or entries, with checksums that fit."""
    ((name, data),) = files.items()
    if rng.random() < 0.2:
        return mutated(files, separator, rng) or {name: b""}
    entries = _entries(data)
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice((_pickle, _pickle, _opcode, _opcode, _tensor, _tensor, _list))(entries, rng)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target, warnings.catch_warnings(action="ignore"):  # of names that are there twice
        for entry, content in entries:
            target.writestr(zipfile.ZipInfo(entry), content)
    return {name: archive.getvalue()}


def _entries(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def _change(entries, rng, suffix, change):
    chosen = [at for at, (name, _) in enumerate(entries) if suffix in name]
    if chosen:
        at = rng.choice(chosen)
        entries[at] = entries[at][0], change(entries[at][1])


def _pickle(entries, rng):
    """A few bytes of the pickle."""

    def change(data):
        return mutated({"": data}, b",", rng).get("", b"")

    _change(entries, rng, "data.pkl", change)


def _opcode(entries, rng):
    """An opcode of the pickle is left out, repeated, replaced or followed by another."""

    def change(data):
        try:
            ends = [position for _, _, position in pickletools.genops(data)] + [len(data)]
        except ValueError:
            return data
        at = rng.randrange(len(ends) - 1)
        opcode, fragment = data[ends[at] : ends[at + 1]], rng.choice(FRAGMENTS)
        new = rng.choice((b"", opcode * 2, fragment, opcode + fragment, fragment + opcode))
        return data[: ends[at]] + new + data[ends[at + 1] :]

    _change(entries, rng, "data.pkl", change)


def _tensor(entries, rng):
    """Some bytes of a tensor, or its length."""

    def change(data):
        if not data or rng.random() < 0.1:
            return data[:-4] or b"1234"
        at = rng.randrange(len(data))
        return data[:at] + rng.randbytes(1) + data[at + 1 :]

    _change(entries, rng, "/data/", change)


def _list(entries, rng):
    """An entry is left out, moved, renamed, or has the content of another."""
    at, other = rng.randrange(len(entries)), rng.randrange(len(entries))
    match rng.randrange(4):
        case 0 if len(entries) > 1:
            del entries[at]
        case 1:
            entries.insert(other, entries.pop(at))
        case 2:
            names = ("archive/data/999", "../x", "archive/data.pkl", "x\\y/z", "archive/byteorder", entries[other][0])
            entries[at] = rng.choice(names), entries[at][1]
        case _:
            entries[at] = entries[at][0], entries[other][1]
