"""What results.json says of targets and of the popularity baseline."""

import dataclasses

import numpy as np
import pytest
from toys import random_interactions

from prec_backdoor.errors import UserError
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.measure import about_setups, measure_popularity
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.models.config import ModelConfig
from prec_backdoor.storage import workdir as work

MODEL = ModelConfig(num_items=0, embed_dim=8, feedforward_dim=8, num_layers=1, max_length=20)


def config_of(**scenario):
    return ExperimentConfig(Scenario(scope="global", k_core=1, **scenario), model=MODEL)


def test_targets_and_baseline(tmp_path):
    interactions = random_interactions(40, 70, (6, 14))
    setups = [make_setup(interactions, config_of(targets="unpopular:3", draw=draw), 0) for draw in (0, 1)]
    found = about_setups([*setups, setups[0]], tmp_path)  # another attack on the same targets adds nothing
    assert [(each["scope"], each["draw"], each["seed"]) for each in found["targets"]] == [("global", 0, 0), ("global", 1, 0)]
    for setup, told in zip(setups, found["targets"], strict=True):
        ids = [each["item"] for each in told["items"]]
        again = make_setup(interactions, config_of(targets="ids:" + ",".join(ids)), 0)
        assert again.targets.tolist() == setup.targets.tolist()
        assert [each["interactions"] for each in told["items"]] == setup.counts[setup.targets].tolist()
    measured = measure_popularity(setups[0])
    row = found["baselines"][0]
    assert (row["baseline"], row["users"], row["draw"]) == ("popularity", "all", 0)
    assert row["hr@10"] == np.mean(measured.truth <= 10) and "lift@10" not in row
    saved = work.load_ranks(tmp_path / "seed-0" / "ranks" / "popularity-global.npz")
    assert saved["truth"].tolist() == measured.truth.tolist()
    assert (tmp_path / "seed-0" / "ranks" / "popularity-global-draw-1.npz").exists()


def test_a_checkpoint_names_the_targets_of_its_attack():
    setup = make_setup(random_interactions(40, 70, (6, 14)), config_of(targets="ids:i7,i3"), 0)
    assert stages.pretrain(setup, 0.5).metadata["targets"] == ["i3", "i7"]
    assert stages.pretrain(setup, 0.0).metadata["targets"] == []


def test_histories_that_leave_too_few_items():
    interactions = random_interactions(40, 51, (49, 50))
    assert make_setup(interactions, config_of(targets="ids:i7"), 0).test.history.shape[1] == 11
    ends = [(0, 1, 0), (2, 3, 4)]  # parts of the first interactions, of the last but one and of the last
    parts = [[first] * (n - 2) + [first if last == 0 else middle, last or middle] for n, (first, middle, last) in
             zip(interactions.lengths(), (ends[user >= 20] for user in range(40)), strict=True)]  # fmt: skip
    given = dataclasses.replace(interactions, split=np.concatenate(parts).astype(np.int8))
    with pytest.raises(UserError, match="51 items and test histories of up to 49 leave too few to tell a rank of 10"):
        make_setup(given, dataclasses.replace(config_of(targets="ids:i7"), model=dataclasses.replace(MODEL, max_length=60)), 0)
    assert make_setup(given, config_of(targets="ids:i7"), 0).test.history.shape[1] == 20
    with pytest.raises(UserError, match="too few to rank; 51 are needed"):
        make_setup(random_interactions(40, 30, (6, 14)), config_of(targets="ids:i7"), 0)
