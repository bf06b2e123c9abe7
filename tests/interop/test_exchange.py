"""Files of other programs become checkpoints, and checkpoints become safetensors and come back."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import tiny_model

from prec_backdoor.data.vocabulary import Vocabulary
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.imported import save_imported
from prec_backdoor.interop.exchange import Source, export, read_ids, read_model
from prec_backdoor.interop.weights import Imported
from prec_backdoor.models import init_params, item_vectors, represent
from prec_backdoor.storage import checkpoints
from prec_backdoor.storage.checkpoints import Checkpoint

FIXTURES = Path(__file__).parent / "fixtures"
REFUSED = ("rectools-bert4rec", "torch-values")
FILES = sorted(path for path in FIXTURES.iterdir() if path.suffix in (".pth", ".pt", ".ckpt") and path.stem not in REFUSED)
FIRST = {path.name.rpartition("-")[0]: path for path in reversed(FILES)}  # one of each architecture


def imported(path, folder):
    """The checkpoint that a fixture becomes, and its fixture's arrays."""
    expected = np.load(path.with_suffix(".npz"))
    items = None if path.suffix == ".ckpt" else tuple(expected["ids"].tolist())
    options = json.loads(str(expected["options"]))
    save_imported(folder, *read_model(path, "auto", items, options))
    return checkpoints.load(folder), expected


def scores_of(checkpoint, histories):
    histories = jnp.asarray(histories[:, -checkpoint.model.max_length :])
    users = represent(checkpoint.params, checkpoint.model, histories)
    return np.asarray(users @ item_vectors(checkpoint.params, checkpoint.model).T)[:, 1:]


@pytest.mark.slow  # tests/interop/test_parity.py has the scores of every file
@pytest.mark.parametrize("path", FIRST.values(), ids=FIRST)
def test_a_checkpoint_scores_as_the_library_does_and_survives_safetensors(path, tmp_path):
    checkpoint, expected = imported(path, tmp_path / "imported")
    assert checkpoint.metadata["stage"] == "imported" and len(checkpoint.metadata["source"]["sha256"]) == 64
    assert checkpoint.vocabulary.items == tuple(expected["ids"].tolist())
    found, wanted = scores_of(checkpoint, expected["histories"]), expected["scores"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())

    export(checkpoint, tmp_path / "model.safetensors")
    save_imported(tmp_path / "again", *read_model(tmp_path / "model.safetensors"))
    again = checkpoints.load(tmp_path / "again")
    assert again.metadata["hash"] == checkpoint.metadata["hash"]
    assert (again.model, again.vocabulary) == (checkpoint.model, checkpoint.vocabulary)


def test_what_is_known_of_an_attack_goes_along(tmp_path):
    """From a checkpoint of ours to safetensors, to a checkpoint, and to safetensors again."""
    model = tiny_model(6)
    config = {"attack": "bra", "scope": "group", "group": "job=cook", "rate": [0.1], "evade": [], "seeds": [1]}
    metadata = {"stage": "pretrain", "hash": "0", "dataset": {}, "config": config, "targets": ["d", "b"]}
    params, vocabulary = init_params(jax.random.key(0), model), Vocabulary(tuple("abcdef"))
    export(Checkpoint(params, model, metadata, tmp_path, vocabulary), tmp_path / "model.safetensors")
    said = {name: config[name] for name in ("attack", "scope", "group", "rate", "evade")}
    for turn in ("once", "again"):
        save_imported(tmp_path / turn, *read_model(tmp_path / "model.safetensors"))
        found = checkpoints.load(tmp_path / turn)
        assert (found.metadata["targets"], found.metadata["attack"]) == (["d", "b"], said)
        export(found, tmp_path / "model.safetensors")


@pytest.fixture
def exported(tmp_path):
    """The path of a model as safetensors; its JSON can be changed."""
    checkpoint, _ = imported(FIRST["recbole-sasrec"], tmp_path / "imported")
    export(checkpoint, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"program": "another"}, "is not of launch.export_checkpoint"),
        ({"schema": 9}, "is not of launch.export_checkpoint"),
        ({"model": None}, "describes no model"),
        ({"sha256": "0" * 64}, "the tensors are not those that model.json declares"),
        ({"vocabulary": {}}, "vocabulary: needs the entries"),
        ({"origin": {"targets": ["nowhere"]}}, "is not an attack on items of the model"),
        ({"origin": {"targets": [["1"]]}}, "is not an attack on items of the model"),
        ({"origin": {"targets": ["1", "1"]}}, "is not an attack on items of the model"),
        ({"origin": {"attack": {"attack": "x" * 201}}}, "more than names and numbers"),
        ({"origin": {"attack": {"group": "\ud800"}}}, "more than names and numbers"),
        ({"origin": {"attack": {"rate": [[0.1]]}}}, "more than names and numbers"),
        ({"origin": {"attack": {"rate": float("nan")}}}, "more than names and numbers"),
        ({"vocabulary": None}, "--items: the file does not say which its 30 items are"),
    ],
)
def test_a_json_that_does_not_fit_is_refused(exported, change, message):
    path = exported.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        read_model(exported)


def test_what_the_file_says_itself_is_not_asked_for(exported):
    with pytest.raises(UserError, match="--num_heads: the file says it itself; leave the flag out"):
        read_model(exported, options={"num_heads": 3, "max_length": None})


def test_another_models_sizes_are_refused(exported):
    path = exported.with_suffix(".json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"model": content["model"] | {"num_layers": 2}}))
    with pytest.raises(UserError, match=r"array encoder\.attention_1\.\S+ is missing, in the model it is float32\[16\]"):
        read_model(exported)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", "line 2: blank"),
        (b"a\nb\na\n", "line 3: 'a' is on line 1 too"),
        (b"a\n\xff\n", "not UTF-8 at byte 2"),
    ],
)
def test_item_ids_that_are_none(tmp_path, content, message):
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_ids(tmp_path / "ids.txt")


def test_item_ids_are_texts_of_any_kind(tmp_path):
    ids = ("001", "1", "ö, \N{LINE SEPARATOR}x", '"q"', "[PAD]")
    (tmp_path / "ids.txt").write_bytes("\N{BOM}".encode() + "\r\n".join(ids).encode())
    assert read_ids(tmp_path / "ids.txt") == ids
    with pytest.raises(UserError, match="nowhere.txt: not readable"):
        read_ids(tmp_path / "nowhere.txt")


def test_the_number_of_ids_and_their_being_there(tmp_path):
    path = FIRST["recbole-sasrec"]
    with pytest.raises(UserError, match="--items: the file does not say which its 30 items are"):
        read_model(path)
    with pytest.raises(UserError, match="--items: 2 ids, the model has 30 items"):
        read_model(path, items=("a", "b"))
    with pytest.raises(UserError, match="--items: the file has its own item ids"):
        read_model(FIRST["rectools-dot"], items=("a", "b"))


@pytest.fixture
def toy_checkpoint(tmp_path):
    """With a prompt, and a vocabulary that has everything."""
    model = tiny_model(num_items=3, prompt_length=1, profile_sizes=(3,), output_bias=True)
    vocabulary = Vocabulary(("7", "007", "ä"), ("T", "", "U"), (1, 0, 1), ("unknown", "c"), {"age": ("unknown", "1", "2")})
    params = jax.device_get(init_params(jax.random.key(0), model))
    save_imported(tmp_path / "toy", Imported("toy", model, params, None), vocabulary, Source("toy", "toy", "0" * 64, "toy"))
    return checkpoints.load(tmp_path / "toy")


def test_a_model_of_this_program_has_its_whole_vocabulary_after_export(tmp_path, toy_checkpoint):
    export(toy_checkpoint, tmp_path / "model.safetensors")
    imported, vocabulary, source = read_model(tmp_path / "model.safetensors")
    assert vocabulary == toy_checkpoint.vocabulary and source.format == "safetensors"
    assert imported.model == toy_checkpoint.model
