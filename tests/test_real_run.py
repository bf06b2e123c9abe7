"""One small real run, end to end; by itself, in FOLDER: python -m tests.test_real_run FOLDER"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from prec_backdoor.data.registry import load_dataset
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.run import run_experiment
from prec_backdoor.models import ModelConfig
from prec_backdoor.storage import workdir as work
from prec_backdoor.train.config import TrainConfig


def run(folder):
    config = ExperimentConfig(
        scenario=Scenario(attack="bra", scope="group", group="occupation=student", targets="unpopular:10"),
        rate=(0.2,),
        usages=("zero_shot",),
        seeds=(0,),
        model=ModelConfig(num_items=0, embed_dim=32, feedforward_dim=32, num_layers=1, max_length=50, dropout=0.0),
        pretrain=TrainConfig(batch_size=32, learning_rate=0.01, epochs=10),
        prompt_epochs=2,
        prompt_learning_rate=0.01,
        implant_epochs=5,
        implant_learning_rate=0.005,
    )
    pea = dataclasses.replace(config, scenario=dataclasses.replace(config.scenario, attack="pea"), rate=(0.35,))
    results = run_experiment(load_dataset("ml-100k"), [config, pea], folder)
    assert results == json.loads((folder / "results.json").read_text())


def test_ml_100k(tmp_path):
    try:
        load_dataset("ml-100k")
    except UserError as error:
        if "no download" not in str(error):
            raise
        pytest.skip(str(error))
    run(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    rows = {(row["attack"], row["users"]): row for row in results["rows"]}
    assert len(rows) == len(results["rows"]) == 3 * 3
    for row in rows.values():
        assert row["n_targets"] == 10
    clean = rows["clean", "all"]
    # Unpopular items are hardly ever shown by the clean model; a backdoor in training labels alone changes that.
    assert clean["exposure_hr@50"] < 0.02
    assert rows["bra", "target"]["exposure_hr@50"] > 0.05
    assert rows["bra", "target"]["lift@50"] > 10
    assert rows["bra", "target"]["exposure_auc"] > rows["clean", "target"]["exposure_auc"] + 0.2
    # With a prompt as its trigger the backdoor opens to the group alone.
    shown = {who: [rows[who, users]["exposure_hr@50"] for users in ("target", "rest")] for who in ("bra", "pea")}
    assert shown["bra"][0] < 3 * shown["bra"][1]
    assert shown["pea"][0] > 0.1 and shown["pea"][0] > 20 * shown["pea"][1]
    assert rows["pea", "target"]["lift@50"] > 50
    # What people watch next is found far better than by guessing, before and after.
    chance = 10 / results["dataset"]["items"]
    assert clean["hr@10"] > 10 * chance
    for attacked in (rows["bra", "all"], rows["pea", "all"]):
        assert attacked["hr@10"] > 0.7 * clean["hr@10"]
        ranks = work.load_ranks(work.ranks_path(tmp_path, attacked))
        assert np.mean(ranks["truth"] <= 10) == attacked["hr@10"]


if __name__ == "__main__":
    run(Path(sys.argv[1]))
