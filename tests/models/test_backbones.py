"""The contract of every backbone and of SASRec's variants; each computes its formula, written again in plain numpy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_backbones import ENCODERS
from toys import assert_same_trees, random_interactions, tiny_model, whole_batch

from prec_backdoor.data.batches import Batch
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import ranks
from prec_backdoor.extend import check_backbone
from prec_backdoor.models import BACKBONES, PromptGenerator, backbone, encode, init_params, represent
from prec_backdoor.storage import arrays, checkpoints
from prec_backdoor.storage import metadata as metadata_file
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.step import train_step

ITEMS, LENGTH = 20, 6
SASREC = {  # each value of each parameter is in one of these, and heads differ
    "sasrec": {"num_heads": 2},
    "of RecBole": {"num_heads": 2, "activation": "gelu", "positions": "oldest", "epsilon": 1e-3, "scale_embeddings": True},
    "of RecTools": {"norm": "query", "activation": "relu", "input_norm": False, "final_norm": True, "padding": "zero"},
    "of gSASRec": {"norm": "query", "num_heads": 2, "input_norm": False, "final_norm": True, "output_projection": False},
    "of pmixer": {"padding": "encoded", "input_norm": False, "final_norm": True},
    "pre-norm": {"norm": "pre", "final_norm": True, "final_epsilon": 1e-2, "positions": "oldest", "output_projection": False},
    "all padding seen": {"norm": "pre", "num_heads": 2, "padding": "encoded"},
}
OTHERS = {
    "gru4rec": {"hidden_dim": 5},
    "gru4rec of one layer": {"backbone": "gru4rec", "num_layers": 1},
    "bert4rec": {"num_heads": 2},
    "bert4rec without the oldest": {"backbone": "bert4rec", "num_heads": 1, "drop_oldest": True},
    "hstu": {"num_heads": 2},
    "hstu without distances": {"backbone": "hstu", "num_heads": 1, "relative_positions": False},
}
SIZES = ("num_heads", "num_layers", "backbone")


def config_of(name, **changes):
    given = SASREC.get(name) or OTHERS.get(name) or {}
    backbone = given.get("backbone", name if name in BACKBONES else "sasrec")
    own = {each: value for each, value in given.items() if each not in SIZES}
    unused = getattr(BACKBONES[backbone], "unused", ())
    sizes = {"num_heads": 1, "feedforward_dim": 12, "max_length": LENGTH}
    sizes |= {each: value for each, value in given.items() if each in ("num_heads", "num_layers")}
    sizes |= {each: value for each, value in {"num_heads": 1, "feedforward_dim": 64}.items() if each in unused}
    return tiny_model(ITEMS, **(sizes | {"backbone": backbone, "parameters": own} | changes))


@functools.cache
def params_of(config):
    """Parameters far from their start, as numpy arrays; nothing is compiled for them."""
    rng, shapes = np.random.default_rng(1), jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    return jax.tree.map_with_path(lambda path, leaf: drawn(rng, leaf.shape, "scale" in str(path[-1])), shapes)


def drawn(rng, shape, near_one):
    return (near_one + 0.5 * rng.normal(size=shape)).astype(np.float32)


every_backbone = pytest.mark.parametrize("name", BACKBONES)
every_variant = pytest.mark.parametrize("name", [*SASREC, *OTHERS])
ENCODE, REPRESENT = (jax.jit(function, static_argnums=1) for function in (encode, represent))


def test_all_backbones_and_all_values_are_tested():
    assert {config_of(name).backbone for name in (*SASREC, *OTHERS)} == set(BACKBONES) == set(ENCODERS)


@pytest.mark.parametrize("name", ["of RecTools", "of gSASRec", "all padding seen"])
def test_a_variant_keeps_the_contract(name):
    """tests/test_extend.py has the backbones."""
    config = config_of(name, num_layers=1)
    check_backbone(BACKBONES[config.backbone], config)


@functools.cache
def batch() -> Batch:
    """Packed rows of several segments, some with padding."""
    batch = whole_batch(random_interactions(users=8, num_items=ITEMS, lengths=(2, LENGTH)), LENGTH)
    assert batch.user.shape[1] > 1 and (batch.segment == 0).any()
    return batch


@every_variant
def test_it_computes_its_formula(name):
    """Every position of every segment of packed rows, and the vectors that users are ranked by."""
    prompted = list((*SASREC, *OTHERS)).index(name) % 2 == 0  # some variants of each backbone with a prompt
    prompt = {"prompt_length": 2, "profile_sizes": (3,)} if prompted else {}
    config = config_of(name, **prompt)
    params = params_of(config)
    plain, items = ENCODERS[config.backbone], params["items"]
    given = batch()._replace(profile=jnp.ones((*batch().user.shape, 1), jnp.int32)) if prompted else batch()
    found = np.asarray(ENCODE(params, config, given.history, given.position, given.segment, given.profile))
    prefix = tokens(params, config) if prompted else None
    for row, segments in zip(found, zip(given.history, given.segment, strict=True), strict=True):
        history, segment = map(np.asarray, segments)
        for number in range(1, segment.max() + 1):
            expected = plain(params["encoder"], config, items[history[segment == number]], prefix)
            np.testing.assert_allclose(row[segment == number], expected, rtol=1e-4, atol=1e-4)
    histories = np.array([[0, 0, 0, 0, 0, 7], [0, 0, 3, 1, 4, 9], [2, 7, 1, 8, 20, 5]], np.int32)
    represented = REPRESENT(params, config, histories, np.ones((3, 1), np.int32))
    for history, vector in zip(histories, represented, strict=True):
        vectors = items[history[history > 0]]
        if config.backbone == "bert4rec":
            first = 1 if config.parameters.get("drop_oldest") else 0
            vectors = np.concatenate([vectors[first:], items[:1]])[-LENGTH:]
        np.testing.assert_allclose(vector, plain(params["encoder"], config, vectors, prefix)[-1], rtol=1e-4, atol=1e-4)


def tokens(params, config):
    """Those of a user with profile [1], [layers, P, D]."""
    return np.asarray(PromptGenerator(config).apply({"params": params["prompt"]}, np.ones((1,), np.int32)))


@every_backbone
def test_dropout_depends_on_each_rows_key_alone(name):
    config = config_of(name, dropout=0.5)
    params, history = params_of(config), np.tile(np.arange(1, LENGTH + 1, dtype=np.int32), (2, 1))
    position, segment = np.tile(np.arange(LENGTH), (2, 1)), np.ones((2, LENGTH), np.int32)
    keys = jax.random.split(jax.random.key(0))
    together = np.asarray(ENCODE(params, config, history, position, segment, keys=keys))
    alone = np.asarray(ENCODE(params, config, history[:1], position[:1], segment[:1], keys=keys[1:]))
    np.testing.assert_allclose(together[1], alone[0], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.1


@every_backbone
def test_bfloat16_is_near_float32(name):
    params = params_of(config_of(name))
    args = batch().history, batch().position, batch().segment
    exact, half = (np.asarray(ENCODE(params, config_of(name, dtype=dtype), *args)) for dtype in ("float32", "bfloat16"))
    real = np.asarray(batch().segment) > 0
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact)[real].mean() < 0.03 * np.abs(exact)[real].mean()


# Configuration


@pytest.mark.parametrize(
    ("name", "changes", "flag"),
    [
        ("gru4rec", {"num_heads": 2}, "num_heads"),
        ("gru4rec", {"feedforward_dim": 8}, "feedforward_dim"),
        ("hstu", {"feedforward_dim": 8}, "feedforward_dim"),
        ("sasrec", {"parameters": {"hidden_dim": 8}}, "hidden_dim"),
        ("bert4rec", {"parameters": {"norm": "pre"}}, "norm"),
    ],
)
def test_a_field_that_it_does_not_have_is_refused(name, changes, flag):
    with pytest.raises(UserError) as error:
        backbone(config_of(name, **changes))
    assert str(error.value) == f"--{flag}: --backbone={name} has no such parameter; leave the flag out"


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("gru4rec", {"hidden_dim": 0}, "--hidden_dim: must be >= 1, got 0"),
        ("bert4rec", {"mask_rate": 1.5}, "--mask_rate: must be >= 0 and <= 1, got 1.5"),
        ("sasrec", {"norm": "none"}, "--norm: must be one of post, pre, query, got 'none'"),
    ],
)
def test_values_of_its_own_parameters_are_checked(name, parameters, message):
    with pytest.raises(UserError) as error:
        backbone(config_of(name, parameters=parameters))
    assert str(error.value) == message


@pytest.mark.parametrize("name", [name for name in BACKBONES if "num_heads" not in getattr(BACKBONES[name], "unused", ())])
def test_heads_must_divide_the_width(name):
    with pytest.raises(UserError, match="--num_heads: must divide --embed_dim=8, got 3"):
        backbone(config_of(name, num_heads=3))


# Checkpoints


def metadata(config):
    return {"stage": "pretrain", "finished": True, "model": dataclasses.asdict(config), "dataset": {"name": "toy"}}


@pytest.mark.parametrize("name", ["gru4rec", "bert4rec without the oldest", "hstu without distances", "of pmixer"])
def test_a_checkpoint_keeps_parameters_and_arrays(name, tmp_path):
    config = config_of(name, num_layers=1, output_items=True, output_bias=True, scoring="cosine")
    params = params_of(config)
    checkpoints.save(tmp_path / "checkpoints", 4, params, None, metadata(config))
    found = checkpoints.load(tmp_path)
    assert found.model == config and hash(found.model) == hash(config)
    assert_same_trees(found.params, params)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hidden_dim": "5"}, "metadata declares hidden_dim='5', which is no int"),
        ({"hidden_dim": 0}, "--hidden_dim: must be >= 1, got 0"),
        ({"norm": "pre"}, "metadata declares 'norm', which its backbone does not have"),
        ([1], r"metadata declares parameters=\(1,\), which is no dict"),
        ({"hidden_dim": 2**62}, "metadata declares a model that cannot be|metadata declares arrays of"),
    ],
)
def test_parameters_of_a_stranger_are_checked(parameters, message, tmp_path):
    config = config_of("gru4rec", num_layers=1)
    declared = metadata(config) | {"model": dataclasses.asdict(config) | {"parameters": parameters}}
    checkpoints.save(tmp_path / "checkpoints", 4, params_of(config), None, declared)
    with pytest.raises(UserError, match=message):
        checkpoints.load(tmp_path)


def test_schema_2_is_still_read(tmp_path):
    """Written by hand as the program of that time did it."""
    config = config_of("sasrec", num_layers=1)
    params = params_of(config)
    model = {
        **{"num_items": ITEMS, "embed_dim": 8, "feedforward_dim": 12, "num_layers": 1, "num_heads": 2, "max_length": LENGTH},
        **{"dropout": 0.0, "dtype": "float32", "matmul_precision": "default", "backbone": "sasrec"},
        **{"prompt_length": 0, "profile_sizes": []},
    }
    hashes = {"hash": checkpoints.content_hash(params), "training_hash": None}
    written = {"schema": 2, "step": 7, **hashes, **metadata(config), "model": model, "config": {"loss": "bpr"}}
    arrays.write(tmp_path / "checkpoints" / "7", {"params": params}, {"metadata": metadata_file.with_digest(written)})
    found = checkpoints.load(tmp_path)
    assert found.model == config and found.vocabulary is None
    assert found.metadata["config"] == {"loss": "bpr", "scoring": "dot", "output_items": False, "output_bias": False}
    assert_same_trees(found.params, params)


# Scores


SCORINGS = {
    "own table": {"output_items": True},
    "bias": {"output_bias": True},
    "cosine": {"scoring": "cosine"},
    "all": {"output_items": True, "output_bias": True, "scoring": "cosine"},
}


def plain_scores(params, config, hidden):
    """[B, V + 1]"""
    table = np.asarray(params["output_items" if config.output_items else "items"])
    if config.scoring == "cosine":
        table, hidden = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (table, hidden))
    return hidden @ table.T + (np.asarray(params["output_bias"])[:, 0] if config.output_bias else 0)


@pytest.mark.parametrize("name", SCORINGS)
def test_ranks_are_those_of_the_scores(name):
    config, bare = config_of("gru4rec", **SCORINGS[name]), config_of("gru4rec")
    params = params_of(config)
    histories = np.array([[0, 0, 0, 0, 0, 7], [0, 0, 3, 1, 4, 9]], np.int32)
    wanted = np.arange(1, ITEMS + 1)
    found = ranks(params, config, histories, wanted)
    scores = plain_scores(params, config, np.asarray(REPRESENT(params, bare, histories)))
    for history, own, ranked in zip(histories, scores, found, strict=True):
        competing = np.setdiff1d(wanted, history)
        best_first = competing[np.argsort(-own[competing])]
        assert ranked[best_first - 1].tolist() == list(range(1, len(competing) + 1))


@pytest.mark.parametrize("name", [pytest.param("own table", marks=pytest.mark.slow), "all"])
def test_lazy_updates_are_those_of_the_whole_table(name):
    """In a first step without L2, where a row that is not in the batch does not move; ce learns from the same scores."""
    config = config_of("gru4rec", num_layers=1, **SCORINGS[name])
    params, given = params_of(config), whole_batch(random_interactions(7, ITEMS, (2, LENGTH)), LENGTH, negatives=2)

    def after_a_step(**changes):
        step = train_step(TrainConfig(negatives=2, l2=0.0, learning_rate=0.01, **changes), config)
        return jax.jit(step.apply)(step.init(params, 3), given, jax.random.key(0))

    (dense, measured), (lazy, _) = after_a_step(item_updates="dense"), after_a_step(item_updates="lazy")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), lazy.params, dense.params)
    moved = {group: bool((dense.params[group] != params[group]).any()) for group in params if group != "encoder"}
    assert moved == dict.fromkeys(moved, True)
    if name == "all":
        hidden = np.asarray(ENCODE(params, config, given.history, given.position, given.segment))
        scores = plain_scores(params, config, hidden)[..., 1:]
        label = np.asarray(given.label)
        own = np.take_along_axis(scores, np.maximum(label, 1)[..., None] - 1, -1)[..., 0]
        expected = (np.log(np.exp(scores).sum(-1)) - own)[label > 0].mean()
        _, measured = after_a_step(item_updates="dense", loss="ce")
        np.testing.assert_allclose(measured["loss"], expected, rtol=1e-5)
