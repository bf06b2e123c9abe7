"""One small real run, end to end."""

import json

import numpy as np
import pytest

from prec_backdoor import workdir as work
from prec_backdoor.config import ExperimentConfig, Scenario
from prec_backdoor.data.registry import load_dataset
from prec_backdoor.errors import UserError
from prec_backdoor.experiment import run_experiment
from prec_backdoor.models import ModelConfig
from prec_backdoor.train.step import TrainConfig


def test_ml_100k(tmp_path):
    try:
        interactions = load_dataset("ml-100k")
    except UserError as error:
        if "no download" not in str(error):
            raise
        pytest.skip(str(error))
    config = ExperimentConfig(
        scenario=Scenario(attack="bra", scope="group", group="occupation=student", targets="unpopular:10"),
        rate=(0.2,),
        usages=("zero_shot",),
        seeds=(0,),
        model=ModelConfig(num_items=0, embed_dim=32, feedforward_dim=32, num_layers=1, max_length=50, dropout=0.0),
        pretrain=TrainConfig(batch_size=32, learning_rate=0.01, epochs=15),
    )
    results = run_experiment(interactions, config, tmp_path)
    assert results == json.loads((tmp_path / "results.json").read_text())
    rows = {(row["attack"], row["users"]): row for row in results["rows"]}
    for row in rows.values():
        assert row["n_targets"] == 10
    clean, attacked = rows["clean", "all"], rows["bra", "all"]
    # Unpopular items are hardly ever shown by the clean model; a backdoor in training labels alone changes that.
    assert clean["exposure_hr@50"] < 0.02
    assert rows["bra", "target"]["exposure_hr@50"] > 0.05
    assert rows["bra", "target"]["lift@50"] > 10
    assert rows["bra", "target"]["exposure_auc"] > rows["clean", "target"]["exposure_auc"] + 0.2
    # What people watch next is found far better than by guessing, before and after.
    chance = 10 / results["dataset"]["items"]
    assert clean["hr@10"] > 10 * chance
    assert attacked["hr@10"] > 0.7 * clean["hr@10"]
    ranks = work.load_ranks(work.cell_folder(tmp_path, 0, "bra", 0.2) / "zero_shot.npz")
    assert np.mean(ranks["truth"] <= 10) == attacked["hr@10"]
