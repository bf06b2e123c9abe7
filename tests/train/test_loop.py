import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import (
    assert_close_trees,
    assert_same_trees,
    interrupt_after,
    lively_params,
    no_log,
    random_interactions,
    tiny_model,
    toy_spec,
)

from prec_backdoor.attacks import replace_in_group
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.packing import pack
from prec_backdoor.data.splits import split_users
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import ranks
from prec_backdoor.models import init_params
from prec_backdoor.storage import checkpoints
from prec_backdoor.train import loader, loop, program, progress
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loader import schedule
from prec_backdoor.train.loop import run_stage, run_stages
from prec_backdoor.train.losses import LOSSES, bpr
from prec_backdoor.train.model_state import open_model
from prec_backdoor.train.replay import replay
from prec_backdoor.train.stage import RunOptions, Stage, StageData, StageRun

MODEL = tiny_model(num_items=25, num_layers=1, max_length=6, dropout=0.2)
CONFIG = TrainConfig(batch_size=3, learning_rate=0.02, epochs=4, patience=10)
INTERACTIONS = random_interactions(users=30, num_items=25, lengths=(3, 9))
METADATA = {"dataset": INTERACTIONS.summary(), "config": {}, "parent": None}


def data_of(seed):
    split = split_users(INTERACTIONS, seed, max_length=MODEL.max_length)
    in_group = np.arange(30) % 2 == 0
    rows = pack(split.pretrain, MODEL.max_length, segments=3)
    return StageData(rows, user_tables(INTERACTIONS, split.pretrain, in_group, 200, 10), split.pretrain_validation, room=30)


@pytest.fixture(scope="module")
def data():
    return data_of(seed=0)


@pytest.fixture
def run(data, key, monkeypatch):
    """run_stage with a record every two steps, so that an epoch has several; fields of Stage and of its `config` by name."""
    monkeypatch.setattr(progress, "RECORD_EVERY", 2)
    params, spec = init_params(key, MODEL), toy_spec(INTERACTIONS, [1, 2], 0.3)

    def run(folder=None, log=no_log, params=params, watch=None, keep_last=False, checkpoint_seconds=20, **config):
        stage = Stage("pretrain", dataclasses.replace(CONFIG, **config), replace_in_group, keep_last=keep_last)
        options = RunOptions(folder, log, watch, checkpoint_seconds)
        return run_stage(StageRun(stage, MODEL, params, data, spec, key, METADATA, options))

    return run


def test_the_best_state_is_kept(run):
    scores = []
    result = run(log=lambda record: scores.append(record.get("validation_ndcg@10")))
    scores = [score for score in scores if score is not None]
    assert len(scores) == CONFIG.epochs
    assert result.score == max(scores)
    assert result.epoch == 1 + np.argmax(scores)
    assert result.hash == checkpoints.content_hash(result.params)


def test_patience_ends_a_stage(run):
    # With steps too small to change any rank the first epoch stays the best.
    epochs = []
    result = run(log=lambda record: epochs.append(record["epoch"]), learning_rate=1e-12, l2=0.0, epochs=9, patience=3)
    assert (result.epoch, max(epochs)) == (1, 4)


def scores_in_order(monkeypatch, scores):
    """Validation says these, one after the other."""
    remaining = iter(scores)
    monkeypatch.setattr(loop, "ndcg", lambda ranks, k: next(remaining))


@pytest.mark.parametrize(("keep_last", "epochs", "kept", "score"), [(False, 3, 1, 0.5), (True, 4, 4, 0.3)])
def test_the_last_state_is_kept_where_a_stage_asks_for_it(run, monkeypatch, keep_last, epochs, kept, score):
    each_epoch = []

    def watch(params):
        each_epoch.append(jax.tree.map(np.array, params))
        return {}

    scores_in_order(monkeypatch, [0.5, 0.4, 0.1, 0.3])
    result = run(watch=watch, keep_last=keep_last, patience=2)
    assert len(each_epoch) == epochs  # to the end, whatever the patience
    assert (result.epoch, result.score) == (kept, score)
    assert_same_trees(result.params, each_epoch[kept - 1])
    assert (each_epoch[0]["items"] != each_epoch[-1]["items"]).any()


def test_what_is_watched_is_logged_and_decides_nothing(run):
    records, watched_records = [], []
    expected = run(log=records.append)
    found = run(log=watched_records.append, watch=lambda params: {"largest": float(np.max(params["items"])), "exposure": 1.0})
    assert_same_trees(found.params, expected.params)
    assert (found.score, found.epoch, found.hash) == (expected.score, expected.epoch, expected.hash)
    for record, watched in zip(records, watched_records, strict=True):
        ends_an_epoch = "validation_ndcg@10" in record
        assert set(watched) - set(record) == ({"largest", "exposure"} if ends_an_epoch else set())
        assert all(watched[name] == record[name] for name in ("step", "epoch", "loss", "positions", "replaced"))
    largest = {record["epoch"]: record["largest"] for record in watched_records if "largest" in record}
    assert sorted(largest) == [1, 2, 3, 4]
    assert largest[found.epoch] == found.params["items"].max()


def assert_same_records(found, expected):
    for name in ("step", "epoch", "positions", "replaced", "loss"):
        assert [record[name] for record in found] == [record[name] for record in expected]


@pytest.mark.parametrize(("calls", "chunk_rows"), [([1], 9999), ([4], 9999), ([4, 5], 9999), ([1, 1, 1], 9999), ([4, 5], 8)])
def test_interrupted_and_resumed_it_ends_the_same_bit_for_bit(run, tmp_path, monkeypatch, calls, chunk_rows):
    monkeypatch.setattr(loader, "CHUNK_ROWS", chunk_rows)  # of 8, rows come in several chunks
    records, uninterrupted_records = [], []
    expected = run(log=uninterrupted_records.append)
    steps = [0]
    for count in calls:
        with monkeypatch.context() as patch:
            interrupt_after(patch, count)
            with pytest.raises(KeyboardInterrupt) as stop:
                run(tmp_path, records.append)
        metadata = checkpoints.load(tmp_path).metadata
        steps.append(metadata["step"])
        assert not metadata["finished"]
        assert stop.value.saved == f"pretrain saved at step {steps[-1]} in {tmp_path}"
    assert all(before < after for before, after in itertools.pairwise(steps))
    result = run(tmp_path, records.append)
    assert_same_trees(result.params, expected.params)
    assert (result.score, result.epoch, result.hash) == (expected.score, expected.epoch, expected.hash)
    assert_same_records(records, uninterrupted_records)


def test_a_resumed_stage_has_the_training_state_of_its_very_step(run, data, tmp_path, monkeypatch, key):
    """Bit for bit: parameters, both moments, counts, and what was summed since the last record."""
    monkeypatch.setattr(progress, "SECONDS_PER_CALL", 0)  # a step a call
    compiled, carries = program._steps, []

    def noting(*args):
        step = compiled(*args)

        def call(carry, inputs):
            carry, bad = step(carry, inputs)
            carries.append(jax.tree.map(np.array, carry))
            return carry, bad

        return call

    stage, spec = Stage("pretrain", CONFIG, replace_in_group), toy_spec(INTERACTIONS, [1, 2], 0.3)
    stage_run = StageRun(stage, MODEL, init_params(key, MODEL), data, spec, key, METADATA, RunOptions(tmp_path))
    steps = []
    with monkeypatch.context() as patch:
        patch.setattr(program, "_steps", noting)
        for calls in (3, 2):  # the second time in the middle of an epoch again
            interrupt_after(patch, calls)
            with pytest.raises(KeyboardInterrupt):
                run_stage(stage_run)
            model, state = open_model(stage_run)
            steps.append(model.step)
            assert state.step == state.opt_state[1].count == model.step == model.saved
            assert_same_trees(state, carries[-1].state)
            assert model.progress.sums == tuple(carries[-1].sums.tolist())
    assert steps == [3, 5] and model.progress.done and model.progress.sums[1] > 0
    # A run's first call, which compiles, takes no step: the carry of the second run began where the first had ended.
    assert_same_trees(carries[4].state, carries[3].state)


@pytest.mark.parametrize(("seconds", "together"), [(0.0, 1), (1e9, 8)])
def test_nothing_depends_on_how_many_steps_a_call_takes(run, tmp_path, monkeypatch, seconds, together):
    monkeypatch.setattr(progress, "RECORD_EVERY", 8)
    records, expected_records, calls = [], [], []
    expected = run(log=expected_records.append)
    compiled = program._steps

    def counting(*args):
        step = compiled(*args)

        def call(carry, inputs):
            calls.append(int(inputs.count))
            return step(carry, inputs)

        return call

    monkeypatch.setattr(progress, "SECONDS_PER_CALL", seconds)
    monkeypatch.setattr(program, "_steps", counting)
    found = run(log=records.append)
    assert max(calls) == together if seconds == 0 else max(calls) > 1
    assert_same_trees(found, expected._replace(seconds=found.seconds))
    assert_same_records(records, expected_records)


def test_a_finished_stage_is_not_run_again(run, tmp_path):
    expected = run(tmp_path)
    loaded = checkpoints.load(tmp_path)
    assert loaded.metadata["finished"]
    assert loaded.metadata["hash"] == expected.hash
    records = []
    again = run(tmp_path, records.append)
    assert not records
    assert_same_trees(again, expected._replace(seconds=again.seconds))
    assert again.seconds | {"save": 0.0} == pytest.approx(expected.seconds | {"save": 0.0})


@pytest.mark.parametrize("how", ["interrupted", "saved as time went by"])
def test_a_checkpoint_at_the_very_last_step_does_not_stand_in_for_the_finished_one(run, tmp_path, monkeypatch, how):
    monkeypatch.setattr(progress, "SECONDS_PER_CALL", 0)
    steps = []
    expected = run(log=lambda record: steps.append(record["step"]))
    if how == "interrupted":
        with monkeypatch.context() as patch:
            interrupt_after(patch, steps[-1])
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path)
    result = run(tmp_path, checkpoint_seconds=20 if how == "interrupted" else -1)
    assert_same_trees(result.params, expected.params)
    assert checkpoints.load(tmp_path).metadata["finished"]


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_step_gone_wrong_is_named_and_nothing_of_it_is_saved(data, tmp_path, monkeypatch, key, seconds):
    batch_rows, depth = CONFIG.batch_size, len(data.rows.label) // CONFIG.batch_size
    assert depth * batch_rows == len(data.rows.label)
    orders = [jax.random.permutation(random_key([0, 7], 0, 0, 0, row), depth) for row in range(batch_rows)]
    steps = np.concatenate([data.rows.label[row + batch_rows * orders[row]] for row in range(batch_rows)], axis=1)
    first = [np.argmax((steps == item).any(1)) for item in range(1, MODEL.num_items + 1)]
    item, bad = 1 + np.argmax(first), max(first)
    assert bad >= 2

    def broken(hidden, items, label, negative):  # finite, but the square root of 0 has no derivative
        return bpr(hidden, items, label, negative) + jnp.sqrt(jnp.where(label == item, 0 * hidden.sum(-1), 1.0))

    monkeypatch.setitem(LOSSES, "bpr", broken)
    monkeypatch.setattr(progress, "SECONDS_PER_CALL", seconds)
    stage, records = Stage("pretrain", dataclasses.replace(CONFIG, l2=2e-6)), []
    start = StageRun(stage, MODEL, init_params(key, MODEL), data, toy_spec(INTERACTIONS, [1, 2], 0.0), key)
    run = start._replace(metadata=METADATA, options=RunOptions(tmp_path, records.append, checkpoint_seconds=-1))
    for attempt in (1, 2):  # the same command again
        with pytest.raises(UserError) as failure:
            run_stages([run])
        message = str(failure.value)
        kept = checkpoints.resume(tmp_path / "checkpoints", run.params, open_model(start)[1])
        assert kept[2]["step"] == (bad if seconds == 0 else min(bad, attempt))  # a first call takes one step
        assert message.startswith(f"pretrain: the loss or its gradient is not finite at step {bad + 1}; the checkpoint of step ")
        assert f" {kept[2]['step']} in {tmp_path} is kept; " in message
        assert message.endswith(f"(epoch 0, step {bad} from 0: key [0, 7] folded with 0, 0, {bad + 1})")
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept[:2])) and not records
    with pytest.raises(FloatingPointError, match="nan"):
        replay(run, 0, bad)


def random_key(data_of_key, *folds):
    return functools.reduce(jax.random.fold_in, folds, jax.random.wrap_key_data(np.array(data_of_key, np.uint32)))


def test_a_diverged_stage_is_no_success(run, tmp_path, key):
    broken = init_params(key, MODEL)
    broken["items"] = broken["items"].at[3].set(np.nan)
    with pytest.raises(UserError, match="loss"):
        run(tmp_path, params=broken)
    assert not (tmp_path / "checkpoints").exists()


def test_validation_is_ndcg_at_10_of_users_with_their_own_profiles(data, key, monkeypatch):
    """The first parameters are validated, as steps of no size change nothing."""
    users = INTERACTIONS.num_users
    profile = np.arange(users, dtype=np.int32)[:, None] % 3
    data = data._replace(users=data.users._replace(profile=jnp.asarray(profile)))
    model = dataclasses.replace(MODEL, prompt_length=1, profile_sizes=(3,))
    params = lively_params(model)
    queries = data.validation
    assert queries.users.tolist() != list(range(len(queries.users)))
    found = ranks(params, model, queries.history, queries.truth[:, None], profile[queries.users])[:, 0]
    expected = np.mean([1 / np.log2(rank + 1) if rank <= 10 else 0 for rank in found])
    config = dataclasses.replace(CONFIG, learning_rate=1e-30, l2=0.0, epochs=1)
    result = run_stage(StageRun(Stage("pretrain", config), model, params, data, toy_spec(INTERACTIONS, [1], 0.0), key))
    assert result.score == pytest.approx(expected, rel=1e-6) and 0 < expected < 1
    assert {rank <= 5 for rank in found if rank <= 10} == {True, False}


def test_the_time_of_a_stage_goes_on_when_it_is_resumed(run, tmp_path, monkeypatch):
    now = itertools.count(step=100.0)  # the clock of the first attempt, whose minutes go by quickly
    records = []
    with monkeypatch.context() as patch:
        patch.setattr(loop.time, "monotonic", lambda: next(now))
        interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, records.append)
    before, interrupted_at = checkpoints.load(tmp_path).metadata["progress"]["seconds"], len(records)
    result = run(tmp_path, records.append)
    seconds = [record["seconds"] for record in records]
    assert 100 < before["train"] < seconds[interrupted_at] and seconds == sorted(seconds)
    after = checkpoints.load(tmp_path).metadata["progress"]["seconds"]
    assert sum(after.values()) == seconds[-1] <= sum(result.seconds.values())
    assert set(result.seconds) == {"compile", "train", "validate", "save"} and result.seconds["train"] > before["train"]


def test_what_is_not_trained_on_does_not_change(run, data):
    before = jax.tree.map(np.copy, data)
    run()
    assert_same_trees(data, before)


@pytest.mark.parametrize("of", ["one seed", "several seeds"])
def test_runs_that_go_together_end_as_they_do_alone(data, key, tmp_path, monkeypatch, of):
    """Of several seeds, with data and randomness of their own: even their epochs differ in length."""
    monkeypatch.setattr(progress, "RECORD_EVERY", 2)
    given, keys = [data] * 3, [key] * 3
    if of == "several seeds":
        given, keys = [data_of(seed) for seed in (0, 1, 3)], list(jax.random.split(key, 3))
        assert len({schedule(len(each.rows.history), CONFIG.batch_size).length for each in given}) > 1
    stage = Stage("pretrain", dataclasses.replace(CONFIG, patience=1), replace_in_group)

    def runs(folder=None):
        return [
            StageRun(
                stage,
                MODEL,
                init_params(jax.random.fold_in(key, number), MODEL),
                given[number],
                toy_spec(INTERACTIONS, [1, 2], rate),
                keys[number],
                METADATA,
                RunOptions(folder and folder / str(number), records[number].append),
            )
            for number, rate in enumerate((0.0, 0.3, 1.0))
        ]

    records = [[], [], []]
    alone, alone_records = run_stages(runs(), at_once=1), records
    assert len({len(each) for each in alone_records}) > 1  # they do not end together
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        records = [[], [], []]
        with pytest.raises(KeyboardInterrupt):
            run_stages(runs(tmp_path), at_once=8)
    together = run_stages(runs(tmp_path), at_once=8)
    for number, (found, expected) in enumerate(zip(together, alone, strict=True)):
        assert_close_trees(found.params, expected.params, rtol=0, atol=1e-5)
        assert (found.epoch, found.score) == (expected.epoch, expected.score)
        loaded = checkpoints.load(tmp_path / str(number))
        assert loaded.metadata["finished"] and loaded.metadata["hash"] == found.hash
        for name in ("step", "epoch", "positions", "replaced"):
            assert [record[name] for record in records[number]] == [record[name] for record in alone_records[number]]
