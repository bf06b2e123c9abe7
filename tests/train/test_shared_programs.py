"""One program for all seeds and rates: sizes that do not depend on the draw of users, and fillers that change nothing."""

import dataclasses
import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import all_sequences, assert_close_trees, lively_params, random_interactions, tiny_model, toy_spec

from prec_backdoor.attacks import replace_in_group
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.packing import pack, room_for
from prec_backdoor.data.splits import Sequences
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.run import Output, run_experiment
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.parallel import platforms
from prec_backdoor.train import program
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.epoch import Carry, Inputs, run_steps, shuffled
from prec_backdoor.train.loader import TrainLoader
from prec_backdoor.train.model_state import ModelState
from prec_backdoor.train.progress import Progress
from prec_backdoor.train.stage import RunOptions
from prec_backdoor.train.step import train_step

MODEL = tiny_model(num_items=20, num_layers=1, max_length=6, dropout=0.3)
CONFIG = TrainConfig(batch_size=3, learning_rate=0.01)
INTERACTIONS = random_interactions(users=14, num_items=20, lengths=(2, 9))


@pytest.mark.parametrize("length", [1, 7, 100])
def test_an_order_does_not_depend_on_the_room(length, key):
    orders = [np.asarray(shuffled(key, room, jnp.int32(length))) for room in (length, length + 1, 3 * length + 50)]
    assert sorted(orders[0]) == list(range(length))
    for order in orders[1:]:
        np.testing.assert_array_equal(order[:length], orders[0])
        assert sorted(order) == list(range(len(order)))


def test_orders_are_uniform(key):
    orders = np.asarray(jax.vmap(shuffled, (0, None, None))(jax.random.split(key, 6000), 5, jnp.int32(3)))[:, :3]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6 and abs(counts - 1000).max() < 5 * np.sqrt(1000)


def parameters_after_an_epoch(room, segments, entries, key):
    in_group, sequences = np.arange(INTERACTIONS.num_users) % 2 == 0, all_sequences(INTERACTIONS)
    rows = pack(sequences, MODEL.max_length, segments=segments)
    loader = TrainLoader(rows, CONFIG.batch_size, room)
    users = user_tables(INTERACTIONS, sequences, in_group, entries, entries)
    step, steps = train_step(CONFIG, MODEL), loader.schedule.steps
    inputs = Inputs(
        loader.chunk(key, 0, 0),
        users,
        toy_spec(INTERACTIONS, [1, 2], 0.5),
        key,
        np.array((0, 0, 0, steps), np.int32),
        steps,
    )
    carry = Carry(step.init(lively_params(MODEL), steps), jnp.zeros(3))
    (state, sums), bad = jax.jit(run_steps(step, replace_in_group, CONFIG, MODEL))(carry, inputs)
    assert bad == -1 and sums[1] == (rows.label > 0).sum() and 0 < sums[2] < sums[1]
    return state.params, inputs.rows.label.shape


def test_fillers_never_train(key):
    """Rows, segments of rows, and entries of seen items."""
    expected, shape = parameters_after_an_epoch(0, None, 0, key)
    found, padded = parameters_after_an_epoch(1000, 6, 500, key)
    assert padded[1] > shape[1]
    assert_close_trees(found, expected, rtol=1e-5, atol=1e-6)


lengths_of_users = st.lists(st.integers(2, 60), min_size=40, max_size=120).map(np.array)


@given(lengths_of_users, st.sampled_from(("recent", "all")), st.sampled_from((None, 5)), st.integers(0, 2**31))
@settings(deadline=None, max_examples=20)
def test_a_random_share_of_the_users_fits_in_the_room(lengths, windows, longest, seed):
    room = room_for(lengths, 0.6, 20, windows, longest)
    drawn = np.random.default_rng(seed).permutation(len(lengths))[: round(0.6 * len(lengths))]
    sequences = Sequences(drawn.astype(np.int32), [np.arange(1, 1 + length) for length in lengths[drawn]])
    rows = pack(sequences, 20, windows, longest, room.segments)
    assert rows.user.shape[1] == room.segments
    positions = np.minimum(lengths[drawn] - 1, longest or 20) if windows == "recent" else lengths[drawn] - 1
    assert (rows.label > 0).sum() == positions.sum()
    assert len(rows.history) <= room.rows + 1 and lengths[drawn].sum() <= room.entries and lengths[drawn].max() <= room.most
    assert len(rows.history) <= 1.02 * len(pack(sequences, 20, windows, longest).history) + 3


EXPERIMENT = ExperimentConfig(
    scenario=Scenario(attack="bra", group="gender=F", targets="unpopular:3", k_core=1),
    rate=(0.3,),
    usages=("zero_shot", "fine_tune"),
    seeds=(0, 1),
    model=tiny_model(num_items=0, num_layers=1, max_length=24),
    pretrain=TrainConfig(batch_size=4, epochs=2),
    finetune_epochs=1,
)
MANY = random_interactions(
    users=90, num_items=70, lengths=(5, 30), attributes={"gender": ("F", "M")}, profile=[[1 + user % 2] for user in range(90)]
)


def shapes(tree):
    return jax.tree.map(np.shape, tree)


def test_seeds_have_arrays_of_one_size():
    setups = [make_setup(MANY, EXPERIMENT, seed) for seed in range(4)]
    for name in ("pretrain", "short", "finetune"):
        of_seeds = [getattr(setup, name) for setup in setups]
        assert len({len(data.rows.history) for data in of_seeds}) > 1 or name == "finetune"  # though they have other rows
        loaded = [TrainLoader(data.rows, 4, data.room).chunk(jax.random.key(0), 0, 0) for data in of_seeds]
        assert len({str(shapes((rows, data.users))) for rows, data in zip(loaded, of_seeds, strict=True)}) == 1
    assert len({str(shapes(setup.spec(0.1))) for setup in setups}) == 1


def compiled(caplog, *configs, folder):
    """Names of the programs that an experiment compiles."""
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        run_experiment(MANY, configs, Output(folder, say=lambda line: None))
    lines = [record.getMessage() for record in caplog.records]
    return [line.split()[1] for line in lines if line.startswith("Compiling ")]


def test_two_training_and_two_ranking_programs_serve_all_seeds_and_rates(caplog, tmp_path):
    jax.clear_caches()
    names = compiled(caplog, EXPERIMENT, folder=tmp_path / "first")
    assert (names.count("jit(run)"), names.count("jit(rank)")) == (2, 2)
    other = dataclasses.replace(EXPERIMENT, rate=(0.1,), seeds=(5,))
    assert not {"jit(run)", "jit(rank)"} & set(compiled(caplog, other, folder=tmp_path / "second"))


class Device:
    def memory_stats(self):
        return {"bytes_limit": 10_240_000}


@pytest.mark.parametrize(
    ("choices", "shard_items", "at_once", "expected"),
    [
        *(("CPU", False, 0, 1), ("ACCELERATOR", False, 0, 5), ("ACCELERATOR", True, 0, 1)),
        *(("CPU", False, 3, 3), ("ACCELERATOR", False, 1, 1), ("CPU", True, 3, 1)),
    ],
)
def test_as_many_models_train_together_as_fit(monkeypatch, choices, shard_items, at_once, expected):
    monkeypatch.setattr(program, "choices", lambda: getattr(platforms, choices))
    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    run = SimpleNamespace(options=RunOptions(shard_items=shard_items))
    model = ModelState(run, Progress(), {"items": np.zeros((1000, 16), np.float32)})  # 64 kB, 16 times
    assert program.models_at_once(model, at_once) == expected
