"""Checkpoints of the real libraries (fixtures/, by make_fixtures.py) score every item as the libraries do."""

import json
import os
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from prec_backdoor.data.registry import load_dataset
from prec_backdoor.errors import UserError
from prec_backdoor.interop import Placeholder, read_torch
from prec_backdoor.interop.pmixer import VERSIONS
from prec_backdoor.interop.registry import FORMATS, convert
from prec_backdoor.models import init_params, represent
from prec_backdoor.models.scoring import item_vectors, scores

FIXTURES = Path(__file__).with_name("fixtures")
FILES = {path.stem: path for path in sorted(FIXTURES.iterdir()) if path.suffix != ".npz" and path.stem != "torch-values"}
REPRESENT = jax.jit(represent, static_argnums=1)
READ = [name for name in FILES if name != "rectools-bert4rec"]


def recorded(name, folder=FIXTURES):
    found = np.load(folder / f"{name}.npz")
    return found["histories"], found["scores"], tuple(found["ids"].tolist()), json.loads(str(found["options"]))


def scored(model, params, histories):
    histories = histories[:, -model.max_length :]
    users = REPRESENT(params, model, histories)
    return np.asarray(scores("be,ve->bv", users, item_vectors(params, model)))[:, 1:]


@pytest.mark.parametrize("name", READ)
def test_scores_equal_the_library_s(name):
    found = check_scores(FIXTURES, FILES[name])
    if name.endswith("-a"):  # no parameter too many; `represent` raises for one that is missing or of another shape
        shapes = jax.eval_shape(lambda: init_params(jax.random.key(0), found.model))
        assert jax.tree.map(lambda x: x.shape, shapes) == jax.tree.map(lambda x: x.shape, found.params)


def check_scores(folder, path):
    histories, expected, ids, options = recorded(path.stem, folder)
    found_format, found = convert(read_torch(path), options=options)
    assert found_format == path.stem.partition("-")[0]
    assert all(array.dtype == np.float32 and array.flags.writeable for array in jax.tree.leaves(found.params))
    assert np.abs(scored(found.model, found.params, histories) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert found.items == (ids if found_format == "rectools" else None)
    assert "30 items" in found.architecture
    return found


LIVE = pytest.mark.skipif("INTEROP_PYTHON" not in os.environ, reason="INTEROP_PYTHON names no Python with torch and recbole")


def by_the_library(script, *arguments, timeout):
    """Runs a script of this folder; the libraries need an older numpy than this program, so another environment."""
    command = (os.environ["INTEROP_PYTHON"], str(Path(__file__).with_name(script)), *arguments)
    subprocess.run(command, check=True, capture_output=True, timeout=timeout)


@LIVE
def test_libraries_that_are_installed(tmp_path):
    """The same of files that the libraries write now."""
    by_the_library("make_fixtures.py", f"--output={tmp_path / 'new'}", timeout=300)
    written = [path for path in sorted((tmp_path / "new").iterdir()) if path.stem in READ and path.suffix != ".npz"]
    assert len(written) == len([name for name in READ if name.startswith("rec")])
    for path in written:
        check_scores(path.parent, path)


@LIVE
@pytest.mark.slow
def test_a_model_trained_by_recbole_has_recbole_s_accuracy(tmp_path):
    """RecBole's own Hit@10 and NDCG@10 on ml-100k: the whole catalogue, leave one out, items of the history compete."""
    try:
        data = load_dataset("ml-100k")
    except UserError as error:
        pytest.skip(str(error))
    (tmp_path / "ml-100k").mkdir()
    owner = np.repeat(np.arange(data.num_users), np.diff(data.offsets))
    with (tmp_path / "ml-100k/ml-100k.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        rows = zip(data.user_ids[owner], data.item_ids[data.items], range(len(owner)), strict=True)
        file.writelines(f"{user}\t{item}\t{time}\n" for user, item, time in rows)
    by_the_library("train_recbole.py", f"--data={tmp_path}", f"--output={tmp_path}", timeout=3600)
    found = convert(read_torch(tmp_path / "sasrec.pth"))[1]
    queries, measured = np.load(tmp_path / "queries.npz"), json.loads((tmp_path / "measured.json").read_text())
    history = np.zeros_like(queries["history"])
    for row, items, length in zip(history, queries["history"], queries["length"], strict=True):
        row[-length:] = items[:length]  # RecBole pads at the end
    own, truth = scored(found.model, found.params, history), queries["truth"] - 1
    rank = 1 + (own > np.take_along_axis(own, truth[:, None], 1)).sum(1)
    assert abs((rank <= 10).mean() - measured["hit"]) <= 1e-4
    assert abs(np.where(rank <= 10, 1 / np.log2(rank + 1), 0).mean() - measured["ndcg"]) <= 1e-4
    assert measured["hit"] > 0.03  # it learned something: a random order has 0.006


def test_the_fixtures_cover_the_sizes():
    models = [convert(read_torch(FILES[name]), options=recorded(name)[3])[1].model for name in READ]
    assert {model.num_layers for model in models} == {1, 3}
    assert {model.num_heads for model in models} == {1, 4}
    assert {model.embed_dim for model in models} == {16, 64}
    assert {recorded(name)[3].get("version") for name in READ if name.startswith("pmixer")} == set(VERSIONS)
    lengths = (recorded(READ[0])[0] > 0).sum(1)
    assert {1, 7, 8, 9} <= set(lengths.tolist()) and models[0].max_length == 8


def fault(content, name="auto", **options):
    with pytest.raises(UserError) as caught:
        convert(content, name, options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


def content_of(name):
    content = read_torch(FILES[name])
    return content | {"state_dict": dict(content["state_dict"])} if "state_dict" in content else dict(content)


def test_what_a_file_does_not_say_is_asked_for():
    old, new, both = content_of("pmixer-30c43cf-a"), content_of("pmixer-fde8a9c-a"), content_of("gsasrec-a")
    asked = fault(old, num_heads=1)
    assert "--version=0f250b6 (September 2020); 30c43cf" in asked and "fde8a9c" not in asked
    asked = fault(new, num_heads=1)
    assert "33bc1d8" in asked and "fde8a9c-norm_first" in asked and "0f250b6" not in asked
    assert "give --num_heads" in fault(old, version="30c43cf") and "give --num_heads" in fault(both)
    assert "never had it" in fault(new, num_heads=1, version="30c43cf")
    assert "must be one of" in fault(new, num_heads=1, version="v2")
    assert "must divide the width 16" in fault(both, num_heads=3)
    bare = content_of("recbole-sasrec-b")["state_dict"]
    assert "give --num_heads" in fault(bare)
    assert convert(bare, options={"num_heads": 4})[1].model.num_heads == 4
    assert "the file says 4, got 2" in fault(content_of("recbole-sasrec-b"), num_heads=2)
    assert "give --max_length" in fault(content_of("recbole-gru4rec-a")["state_dict"])
    wrapped = {f"module.{name}": array for name, array in bare.items()}
    assert convert(wrapped, options={"num_heads": 4})[0] == "recbole"


@pytest.mark.parametrize(
    "name", ["recbole-sasrec-a", "recbole-gru4rec-a", "recbole-bert4rec-a", "rectools-dot-a", "gsasrec-a", "pmixer-fde8a9c-a"]
)
def test_every_tensor_is_needed_and_its_shape_checked(name):
    options = recorded(name)[3]
    whole = content_of(name)
    tensors = whole.get("state_dict", whole)
    optional = {"torch_model.pos_encoding_layer.pos_emb.weight", "output_embedding.weight"}
    for tensor in set(tensors) - optional:
        for changed in (
            {},
            {tensor: tensors[tensor][..., :-1]},
            {tensor: tensors[tensor][None]},
            {tensor: np.array(tensors[tensor], int)},
        ):
            state = {key: array for key, array in tensors.items() if key != tensor} | changed
            assert fault(whole | {"state_dict": state} if tensors is not whole else state, **options)
        state = tensors | {tensor: np.full_like(tensors[tensor], np.nan)}
        assert "not finite" in fault(whole | {"state_dict": state} if tensors is not whole else state, **options)
    state = tensors | {"another.weight": np.ones(3, np.float32)}
    message = fault(whole | {"state_dict": state} if tensors is not whole else state, **options)
    assert "another.weight" in message and "an architecture that is not read" in message


def test_other_architectures_are_named():
    unisrec = content_of("recbole-sasrec-a")["state_dict"]
    unisrec.pop("item_embedding.weight")
    assert "UniSRec" in fault(unisrec | {"moe_adaptor.w_gate": np.ones((768, 8), np.float32)})
    assert "BERT4RecModel" in fault(read_torch(FILES["rectools-bert4rec"]))
    assert "unknown architecture with 1 tensors, such as 'fc.weight'" in fault({"fc.weight": np.ones((2, 2))})
    assert "no state dict" in fault([1, 2]) and "no state dict" in fault({"epoch": 3})
    assert "must be one of auto, recbole" in fault({}, "keras")
    assert "give --format=gsasrec" in fault(content_of("gsasrec-a"), "recbole")
    assert "unknown architecture" in fault({"fc.weight": np.ones((2, 2))}, "pmixer")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("transformer_layers_type", "my.Layers", "transformer_layers_type='my.Layers'"),
        ("use_causal_attn", False, "causal models are read"),
        ("use_key_padding_mask", "no", "use_key_padding_mask is of type str, not bool"),
        ("similarity_module_kwargs", {"distance": "dot", "power": 2}, "other arguments than distance"),
        ("similarity_module_kwargs", {"distance": "euclid"}, "--scoring: must be one of dot, cosine"),
        ("session_max_len", None, "session_max_len"),
        ("session_max_len", 9, "has shape"),
        ("n_heads", 3, "must divide"),
    ],
)
def test_settings_of_rectools(setting, value, said):
    content = content_of("rectools-dot-a")
    hyper = content["hyper_parameters"]
    changed = content | {"hyper_parameters": hyper | {"model_config": hyper["model_config"] | {setting: value}}}
    assert said in fault(changed)


def test_item_ids_of_rectools():
    content = content_of("rectools-dot-a")
    hyper = content["hyper_parameters"]
    ids = hyper["item_external_ids"]
    for wrong in (ids[:-1], [*ids[:-1], ids[1]], [*ids[:-1], 1.5], [*ids[:-1], None], "PAD", None):
        assert "item_external_ids" in fault(content | {"hyper_parameters": hyper | {"item_external_ids": wrong}})


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("model", "SASRecF", "says model 'SASRecF'"),
        ("model", "GRU4Rec", "says model GRU4Rec, its tensors are those of a SASRec"),
        ("hidden_act", "swish", "hidden_act='swish'"),
        ("layer_norm_eps", "tiny", "layer_norm_eps"),
        ("n_heads", 5, "must divide"),
    ],
)
def test_settings_of_recbole(setting, value, said):
    content = content_of("recbole-sasrec-a")
    content["config"].state["final_config_dict"][setting] = value
    assert said in fault(content)


def test_every_format_has_a_fixture():
    assert {name.partition("-")[0] for name in FILES} == set(FORMATS)


@pytest.mark.parametrize("value", [np.ones((2, 2)), [1], {"a": 1}, None, "text", -1, 10**30])
def test_settings_of_any_type(value):
    """Any value in place of any setting is refused in one line, or has no effect on what is read."""
    recbole, rectools = content_of("recbole-sasrec-a"), content_of("rectools-dot-a")
    config, hyper = recbole["config"].state["final_config_dict"], rectools["hyper_parameters"]
    changed = []
    for name in config:
        state = {"final_config_dict": config | {name: value}}
        changed.append(recbole | {"config": placeholder_of("recbole.config.configurator.Config", state)})
    changed += [recbole | {"config": placeholder_of("recbole.config.configurator.Config", value)}, recbole | {"config": value}]
    changed += [rectools | {"hyper_parameters": hyper | {name: value}} for name in hyper]
    changed += [
        rectools | {"hyper_parameters": hyper | {"model_config": hyper["model_config"] | {name: value}}}
        for name in hyper["model_config"]
    ]
    changed += [rectools | {"hyper_parameters": value}, rectools | {"state_dict": value}, {"state_dict": value}, value]
    for content in changed:
        try:
            convert(content)
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 600


def placeholder_of(name, state):
    found = Placeholder(name, ())
    found.state = state
    return found


def test_tensors_that_share_memory():
    """A small file could declare copies of one tensor without end."""
    content = content_of("gsasrec-a")
    content["output_embedding.weight"] = content["item_embedding.weight"]
    assert "'item_embedding.weight' and 'output_embedding.weight' share memory" in fault(content, num_heads=1)
