"""What results.json says of targets and of the popularity baseline."""

import dataclasses

import numpy as np
import pytest
from toys import random_interactions

from prec_backdoor.errors import UserError
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.measure import TestRanks, about_setups, measure_popularity, result_rows
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


def test_segments_are_the_group_and_the_rest():
    """By hand: members, and they alone, are shown every target first and the real next item last."""
    interactions = random_interactions(
        60, 70, (6, 14), attributes={"gender": ("F", "M")}, profile=[[1 + (user % 3 > 0)] for user in range(60)]
    )
    scenario = Scenario(group="gender=F", targets="unpopular:3", k_core=1)
    setup = make_setup(interactions, ExperimentConfig(scenario, model=MODEL), 0)
    members = interactions.profile[setup.test.users, 0] == 1
    assert 0 < members.sum() < len(members)
    shown = np.where(members, 1, 60)[:, None] * np.ones(3, int)
    rows = {row["users"]: row for row in result_rows(setup, {}, TestRanks(61 - shown[:, 0], shown), None)}
    assert {name: (row["n_users"], row["exposure_hr@10"] > 0, row["hr@10"]) for name, row in rows.items()} == {
        "all": (len(members), True, np.mean(~members)),
        "target": (members.sum(), True, 0.0),
        "rest": ((~members).sum(), False, 1.0),
    }
    assert rows["target"]["exposure_hr@10"] == 1.0


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
    assert make_setup(given, config_of(targets="ids:i7"), 0).test.history.shape[1] == 25  # half of the items
    with pytest.raises(UserError, match="too few to rank; 51 are needed"):
        make_setup(random_interactions(40, 30, (6, 14)), config_of(targets="ids:i7"), 0)
