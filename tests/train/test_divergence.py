"""A model that diverges, or that cannot learn, ends in one line and leaves no finished checkpoint."""

import dataclasses

import jax
import numpy as np
import pytest
from toys import make_interactions, random_interactions, tiny_model, toy_spec

from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.packing import pack
from prec_backdoor.data.splits import split_users
from prec_backdoor.errors import UserError
from prec_backdoor.models import init_params
from prec_backdoor.storage import checkpoints
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions, Stage, StageData, StageRun

MODEL = tiny_model(num_items=12, num_layers=1, max_length=6)
CONFIG = TrainConfig(batch_size=32, schedule="constant", epochs=3)  # an epoch is one step


def stage_run(interactions, options=RunOptions(), **config):  # noqa: B008 (never changed)
    split = split_users(interactions, seed=0, max_length=MODEL.max_length)
    data = StageData(pack(split.pretrain, 6), user_tables(interactions, split.pretrain), split.pretrain_validation)
    stage = Stage("pretrain", dataclasses.replace(CONFIG, **config))
    params, key = init_params(jax.random.key(0), MODEL), jax.random.key(1)
    metadata = {"dataset": interactions.summary(), "config": {}, "parent": None}
    return StageRun(stage, MODEL, params, data, toy_spec(interactions, [1], 0.1), key, metadata, options)


@pytest.fixture(scope="module")
def interactions():
    return random_interactions(users=20, num_items=12, lengths=(3, 9))


@pytest.mark.parametrize("rate", [1e30, 3e38])  # parameters whose products are not finite, and that are not finite themselves
def test_weights_that_diverge_are_never_validated_or_kept(interactions, rate, tmp_path):
    records = []
    run = stage_run(interactions, RunOptions(folder=tmp_path, log=records.append), learning_rate=rate)
    assert run.schedule.length == 1
    with pytest.raises(UserError, match=r"not finite.*lower the learning rate") as error:
        run_stage(run)
    assert "\n" not in str(error.value)
    assert not records
    assert not list(tmp_path.rglob("*.npz")) and not (tmp_path / "checkpoints").exists()


def test_no_stage_without_rows(interactions):
    """Of a company whose users have three interactions, one is left to train on."""
    run = stage_run(interactions)
    with pytest.raises(UserError, match="^pretrain: nothing to train on: no user has two items"):
        run_stage(run._replace(data=run.data._replace(rows=jax.tree.map(lambda array: array[:0], run.data.rows))))


@pytest.mark.parametrize("loss", ["bpr", "bce"])
def test_no_stage_without_a_negative(loss):
    everything = make_interactions([np.arange(1, 13)[np.roll(np.arange(12), user)].tolist() + [1, 2] for user in range(9)], 12)
    with pytest.raises(UserError, match=f"no negative to sample for --loss={loss}; use --loss=ce"):
        run_stage(stage_run(everything, loss=loss))
    assert np.isfinite(run_stage(stage_run(everything, loss="ce", epochs=1)).score)


def test_an_unfinished_state_is_checked_too(interactions, tmp_path, monkeypatch):
    """Two steps an epoch, a checkpoint after each: the first one's parameters are refused before they are written."""
    options = RunOptions(folder=tmp_path, checkpoint_seconds=0.0)
    run = stage_run(interactions, options, learning_rate=3e38, batch_size=3)
    written = []
    monkeypatch.setattr(checkpoints, "save", lambda *given: written.append(given))
    with pytest.raises(UserError, match="not finite"):
        run_stage(run)
    assert all(np.isfinite(leaf).all() for given in written for leaf in jax.tree.leaves(given[2:4]) if hasattr(leaf, "dtype"))
