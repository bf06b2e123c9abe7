"""Exported models: read back bit for bit, by other programs too, and refused when damaged."""

import json
import random
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from prec_backdoor.errors import UserError
from prec_backdoor.interop.safetensors import read_safetensors, write_safetensors

PARAMS = {
    "items": np.array([[0.0, -0.0], [np.float32(1e-45), 3.4e38], [1 / 3, -7]], np.float32),
    "encoder": {
        "norm_in": {"scale": np.ones(2, np.float32).T, "bias": np.zeros(2, np.float32)},
        "kernel": np.eye(3, dtype=np.float32)[::2],
    },
}
DESCRIPTION = {
    "model": {"num_items": 2},
    "vocabulary": {"items": ["é", "\ud83d\udc1f".encode("utf-16", "surrogatepass").decode("utf-16")]},
}


@pytest.fixture
def path(tmp_path):
    write_safetensors(tmp_path / "new" / "model.safetensors", PARAMS, DESCRIPTION)
    return tmp_path / "new" / "model.safetensors"


def test_round_trip(path):
    params, description = read_safetensors(path)
    assert description == DESCRIPTION
    assert params["items"].tobytes() == PARAMS["items"].tobytes()
    assert params["encoder"]["kernel"].tolist() == [[1, 0, 0], [0, 0, 1]] and set(params["encoder"]["norm_in"]) == {
        "scale",
        "bias",
    }
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.json", "model.safetensors"]
    assert load_file(path)["encoder/norm_in/scale"].tolist() == [1, 1]
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    write_safetensors(path, params, description)
    assert before == (path.read_bytes(), path.with_suffix(".json").read_bytes())


def refused(path):
    with pytest.raises(UserError) as caught:
        read_safetensors(path)
    assert (
        str(caught.value).startswith(f"{path}: ")
        and "\n" not in str(caught.value)
        and len(str(caught.value)) < len(str(path)) + 250
    )
    return str(caught.value)


def declare(path):
    """Makes the description fit whatever the tensors' file is now."""
    import hashlib

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest}))


def test_damage(path):
    description = path.with_suffix(".json")
    sound = description.read_text()
    for content in ("", "{", "[]", "[" * 100_000, "\x00", "{}"):
        description.write_text(content)
        assert "model.json" in refused(path)
    description.unlink()
    assert "model.json is missing" in refused(path)
    description.write_text(sound)
    path.write_bytes(path.read_bytes()[:-1])
    assert "not those that model.json declares" in refused(path)
    path.unlink()
    assert "no such file" in refused(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": np.ones(2, np.float64)},
        {"a": np.ones(2, np.float16)},
        {"a//b": np.ones(2, np.float32)},
        {"/a": np.ones(2, np.float32)},
        {"a": np.ones(2, np.float32), "a/b": np.ones(2, np.float32)},
        {"a/b": np.ones(2, np.float32), "a": np.ones(2, np.float32)},
        {"a/" * 20 + "a": np.ones(2, np.float32)},
        {"": np.ones(2, np.float32)},
        {str(number): np.ones(1, np.float32) for number in range(10_001)},
    ],
)
def test_tensors_that_no_model_has(path, tensors):
    save_file(tensors, path)
    declare(path)
    assert refused(path)


def test_headers_that_lie(path):
    for header in (
        {"a": {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 1 << 32]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        {"a": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 8]}},
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        },
        {"a": {"dtype": "X", "shape": [2], "data_offsets": [0, 8]}},
        {"a": 5},
    ):
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
        declare(path)
        assert "no safetensors file" in refused(path)
    for content in (b"", struct.pack("<Q", 1 << 62), struct.pack("<Q", 1 << 20) + b"{" * (1 << 20), b"x" * 100):
        path.write_bytes(content)
        declare(path)
        assert "no safetensors file" in refused(path)


def test_mutations(path):
    """Any change of the tensors' file, with a description that fits it, gives tensors or one line."""
    rng, sound = random.Random(0), path.read_bytes()
    for _ in range(150):
        changed = bytearray(sound)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)
        declare(path)
        try:
            read_safetensors(path)
        except UserError as error:
            assert "\n" not in str(error)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_safetensors(tmp_path / "file" / "x.safetensors", PARAMS, {})
