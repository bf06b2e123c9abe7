import dataclasses
import json

import jax
import numpy as np
import pytest
from toys import assert_same_trees, lively_params, tiny_model

from prec_backdoor.errors import UserError
from prec_backdoor.storage import checkpoints

MODEL = tiny_model(num_items=9, num_layers=1, max_length=5)
TRAINING = {"moments": np.arange(6.0, dtype=np.float32), "step": np.int32(3)}


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(np.asarray, lively_params(MODEL))


def metadata(**changes):
    return {"stage": "pretrain", "finished": True, "model": dataclasses.asdict(MODEL), "dataset": {"name": "toy"}} | changes


@pytest.fixture
def stage_folder(tmp_path, params):
    checkpoints.save(tmp_path / "checkpoints", 4, params, None, metadata())
    return tmp_path


def test_round_trip(stage_folder, params):
    for path in (stage_folder, stage_folder / "checkpoints", str(stage_folder)):
        found = checkpoints.load(path)
        assert_same_trees(found.params, params)
        assert found.model == MODEL
        added = {
            name: found.metadata.pop(name) for name in ("schema", "step", "hash", "training_hash", "vocabulary_hash", "digest")
        }
        assert found.metadata == json.loads(json.dumps(metadata()))
        assert added["digest"] and added | {"digest": ""} == {
            "schema": 3, "step": 4, "hash": checkpoints.content_hash(params), "training_hash": None, "digest": "",
            "vocabulary_hash": None,
        }  # fmt: skip


def test_the_newest_is_loaded_and_two_are_kept(tmp_path, params):
    for step in (1, 2, 10):
        moved = {**params, "items": params["items"] + step}
        checkpoints.save(tmp_path / "checkpoints", step, moved, TRAINING, metadata(finished=False))
    assert checkpoints.load(tmp_path).metadata["step"] == 10
    np.testing.assert_array_equal(checkpoints.load(tmp_path).params["items"], params["items"] + 10)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2", "10"}


def test_an_interrupted_stage_is_not_used(tmp_path, params):
    checkpoints.save(tmp_path, 4, params, TRAINING, metadata(finished=False))
    assert checkpoints.load(tmp_path).metadata["finished"] is False
    with pytest.raises(UserError, match="the stage was interrupted; run its command again to finish it"):
        checkpoints.load(tmp_path, finished=True)
    checkpoints.save(tmp_path, 5, params, None, metadata())
    assert_same_trees(checkpoints.load(tmp_path, finished=True).params, params)


def test_resume(tmp_path, params):
    folder = tmp_path / "checkpoints"
    assert checkpoints.resume(folder, params, TRAINING) is None
    checkpoints.save(folder, 3, params, TRAINING, metadata(finished=False, progress={"epoch": 1}))
    found, training, description = checkpoints.resume(folder, params, TRAINING)
    assert_same_trees(found, params)
    assert_same_trees(training, TRAINING)
    assert description["progress"] == {"epoch": 1}
    checkpoints.save(folder, 8, params, None, metadata())
    _, training, description = checkpoints.resume(folder, params, TRAINING)
    assert training is None
    assert description["finished"] and description["step"] == 8


def test_the_content_hash_is_of_names_types_shapes_and_values(params):
    same = checkpoints.content_hash({name: jax.tree.map(np.copy, params[name]) for name in reversed(params)})
    assert same == checkpoints.content_hash(params)
    items = params["items"]
    others = [
        {**params, "items": np.nextafter(items, np.float32(9))},
        {**params, "items": items.astype(np.float64)},
        {**params, "items": items.reshape(items.shape[::-1])},
        {"encoder": params["encoder"], "things": items},
        {"encoder": params["encoder"]},
    ]
    assert len({same, *map(checkpoints.content_hash, others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_items": 10}, r"array items is float32\[10, 8\], the model has float32\[11, 8\]"),
        ({"max_length": 6}, r"array encoder\.Embed_0.* is float32\[5, 8\], the model has float32\[6, 8\]"),
        ({"num_layers": 2}, r"array encoder\.attention_1.* is missing"),
        ({"num_layers": 10**9}, "metadata declares 1000000000 layers"),
        ({"num_items": 2**40}, "metadata declares arrays of 35184372.* bytes, its files have"),
        ({"embed_dim": 2**70}, "metadata declares a model that cannot be"),
        ({"num_layers": 1, "backbone": 3}, "metadata declares backbone=3, which is no str"),
        ({"embed_dim": "8"}, "metadata declares embed_dim='8', which is no int"),
        ({"backbone": "rnn"}, "--backbone: must be one of .*, got 'rnn'"),
        ({"colour": 1}, "declares a model with other fields than num_items, "),
        ({"num_heads": 3}, "num_heads"),
        ({"embed_dim": -8}, "embed_dim"),
    ],
)
def test_metadata_that_the_arrays_do_not_fit(tmp_path, params, changes, message):
    declared = metadata(model=dataclasses.asdict(MODEL) | changes)
    checkpoints.save(tmp_path / "checkpoints", 1, params, None, declared)
    with pytest.raises(UserError, match=message):
        checkpoints.load(tmp_path)


PROMPTED = tiny_model(num_items=9, num_layers=1, max_length=5, prompt_length=2, profile_sizes=(3, 4))


@pytest.fixture(scope="module")
def prompted_params():
    return jax.tree.map(np.asarray, lively_params(PROMPTED))


def test_round_trip_with_a_prompt(tmp_path, prompted_params):
    checkpoints.save(tmp_path / "checkpoints", 4, prompted_params, None, metadata(model=dataclasses.asdict(PROMPTED)))
    found = checkpoints.load(tmp_path)
    assert set(found.params) == {"items", "encoder", "prompt"}
    assert_same_trees(found.params, prompted_params)
    assert found.model == PROMPTED and hash(found.model) == hash(PROMPTED)
    without = {name: prompted_params[name] for name in ("items", "encoder")}
    assert checkpoints.content_hash(without) != found.metadata["hash"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile_sizes": [3]}, r"array prompt\.inner\.kernel is float32\[16, 8\], the model has float32\[8, 8\]"),
        ({"profile_sizes": [3, 4, 2]}, r"array prompt\.attribute_2.* is missing"),
        ({"profile_sizes": [4, 4]}, r"array .*attribute_0.* is float32\[3, 8\], the model has float32\[4, 8\]"),
        ({"profile_sizes": []}, r"metadata declares profile_sizes=\(\), which are not all sizes"),
        ({"profile_sizes": [3, 0]}, "which are not all sizes"),
        ({"profile_sizes": [3, True]}, "which are not all sizes"),
        ({"profile_sizes": [3, "4"]}, "which are not all sizes"),
        ({"profile_sizes": [3, [4]]}, "which are not all sizes"),
        ({"profile_sizes": [3, 2**70]}, "metadata declares a model that cannot be"),
        ({"profile_sizes": [1] * 1000}, "1 layers and 1000 attributes, over 256"),
        ({"profile_sizes": 7}, "metadata declares profile_sizes=7, which is no tuple"),
        ({"prompt_length": 1}, r"array prompt\.outer.* is float32\[16\], the model has float32\[8\]"),
        ({"prompt_length": 0}, "params do not have the recorded content hash"),
        ({"prompt_length": -1}, "--prompt_length: must be >= 0, got -1"),
    ],
)
def test_metadata_that_the_prompt_does_not_fit(tmp_path, prompted_params, changes, message):
    declared = metadata(model=dataclasses.asdict(PROMPTED) | changes)
    checkpoints.save(tmp_path / "checkpoints", 1, prompted_params, None, declared)
    with pytest.raises(UserError, match=message):
        checkpoints.load(tmp_path)


def test_a_prompt_that_is_not_there(tmp_path, params):
    checkpoints.save(tmp_path / "checkpoints", 1, params, None, metadata(model=dataclasses.asdict(PROMPTED)))
    with pytest.raises(UserError, match=r"array prompt\..* is missing"):
        checkpoints.load(tmp_path)


def test_arrays_of_another_type(tmp_path, params):
    half = jax.tree.map(lambda x: x.astype(np.float16), params)
    checkpoints.save(tmp_path / "checkpoints", 1, half, None, metadata())
    with pytest.raises(UserError, match=r"float16\[.*\], the model has float32\["):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 1}, "checkpoint schema 1, this program reads 2 and 3"),
        ({"stage": 7}, "metadata has no valid 'stage'"),
        ({"finished": "yes"}, "metadata has no valid 'finished'"),
        ({"model": None}, "metadata has no valid 'model'"),
        ({"hash": "0" * 64}, "params do not have the recorded content hash"),
    ],
)
def test_metadata_of_something_else(tmp_path, params, changes, message):
    checkpoints.save(tmp_path / "checkpoints", 1, params, None, metadata(**changes))
    with pytest.raises(UserError, match=message):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("weights")])
def test_no_checkpoint_there(tmp_path, make):
    make(tmp_path / "stage")
    instead = "(give the folder of a stage|a file of another program is first imported)"
    with pytest.raises(UserError, match=f"stage: no checkpoint there; {instead}"):
        checkpoints.load(tmp_path / "stage")


def test_a_folder_of_numbers_is_no_checkpoint(tmp_path):
    (tmp_path / "7").mkdir()
    with pytest.raises(UserError, match="not a checkpoint of this program"):
        checkpoints.load(tmp_path)
