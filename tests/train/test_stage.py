import dataclasses

import jax
import numpy as np
import pytest
from toys import assert_same_trees, random_interactions, tiny_model, toy_spec

from prec_backdoor import checkpoints
from prec_backdoor.attacks import replace_in_group
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.splits import split_users
from prec_backdoor.data.windows import pack
from prec_backdoor.errors import UserError
from prec_backdoor.models import init_params
from prec_backdoor.train import stage as stages
from prec_backdoor.train.interrupt import Interrupt
from prec_backdoor.train.stage import Stage, StageData, run_stage
from prec_backdoor.train.step import TrainConfig

MODEL = tiny_model(num_items=25, num_layers=1, max_length=6, dropout=0.2)
CONFIG = TrainConfig(batch_size=3, learning_rate=0.02, epochs=4, patience=10)
INTERACTIONS = random_interactions(users=30, num_items=25, lengths=(3, 9))
METADATA = {"dataset": INTERACTIONS.summary(), "config": {}, "parent": None}


@pytest.fixture(scope="module")
def data():
    split = split_users(INTERACTIONS, seed=0, max_length=MODEL.max_length)
    in_group = np.arange(30) % 2 == 0
    rows = pack(split.pretrain, MODEL.max_length)
    return StageData(rows, user_tables(INTERACTIONS, split.pretrain, in_group), split.pretrain_validation)


@pytest.fixture
def run(data, key, monkeypatch):
    """run_stage with two steps a call, so that an epoch has several; `config` fields by name."""
    monkeypatch.setattr(stages, "STEPS_PER_CALL", 2)
    params, spec = init_params(key, MODEL), toy_spec(INTERACTIONS, [1, 2], 0.3)

    def run(folder=None, log=lambda record: None, params=params, **config):
        stage = Stage("pretrain", dataclasses.replace(CONFIG, **config), replace_in_group)
        return run_stage(stage, MODEL, params, data, spec, key, folder, METADATA, log)

    return run


def interrupt_after(monkeypatch, calls):
    """Ctrl-C that comes while the program does its `calls`-th piece of work from now."""
    remaining = iter([False] * (calls - 1) + [True])
    monkeypatch.setattr(Interrupt, "requested", property(lambda self: next(remaining), lambda self, value: None), raising=False)


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


@pytest.mark.parametrize("calls", [[1], [3], [3, 4], [1, 1, 1]])
def test_interrupted_and_resumed_it_ends_the_same_bit_for_bit(run, tmp_path, monkeypatch, calls):
    records, uninterrupted_records = [], []
    expected = run(log=uninterrupted_records.append)
    for count in calls:
        with monkeypatch.context() as patch:
            interrupt_after(patch, count)
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path, records.append)
        assert not checkpoints.load(tmp_path).metadata["finished"]
    assert len(records) == sum(calls)
    result = run(tmp_path, records.append)
    assert_same_trees(result.params, expected.params)
    assert (result.score, result.epoch, result.hash) == (expected.score, expected.epoch, expected.hash)
    for name in ("step", "epoch", "loss", "positions", "replaced"):
        assert [record[name] for record in records] == [record[name] for record in uninterrupted_records]


def test_a_finished_stage_is_not_run_again(run, tmp_path):
    expected = run(tmp_path)
    loaded = checkpoints.load(tmp_path)
    assert loaded.metadata["finished"]
    assert loaded.metadata["hash"] == expected.hash
    records = []
    again = run(tmp_path, records.append)
    assert not records
    assert_same_trees(again, expected)


@pytest.mark.parametrize("how", ["interrupted", "saved as time went by"])
def test_a_checkpoint_at_the_very_last_step_does_not_stand_in_for_the_finished_one(run, tmp_path, monkeypatch, how):
    calls = []
    expected = run(log=calls.append)
    if how == "interrupted":
        with monkeypatch.context() as patch:
            interrupt_after(patch, len(calls))
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path)
    else:
        monkeypatch.setattr(stages, "SECONDS_PER_CHECKPOINT", -1)
    result = run(tmp_path)
    assert_same_trees(result.params, expected.params)
    assert checkpoints.load(tmp_path).metadata["finished"]


def test_a_diverged_stage_is_no_success(run, tmp_path, key):
    broken = init_params(key, MODEL)
    broken["items"] = broken["items"].at[3].set(np.nan)
    with pytest.raises(UserError, match="loss"):
        run(tmp_path, params=broken)


def test_what_is_not_trained_on_does_not_change(run, data):
    before = jax.tree.map(np.copy, data)
    run()
    assert_same_trees(data, before)
