"""Trains and measures on whatever devices there are; run as a program it leaves what came out in a file.

Batches are ragged, dropout is on, and neither users nor rows divide by eight.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
from toys import random_interactions

from prec_backdoor.config import ExperimentConfig, Scenario
from prec_backdoor.models import ModelConfig
from prec_backdoor.pipeline import finetune, measure, pretrain, result_rows
from prec_backdoor.setting import make_setting
from prec_backdoor.train.step import TrainConfig

CONFIG = ExperimentConfig(
    scenario=Scenario(group="gender=F", targets="unpopular:3", k_core=1),
    model=ModelConfig(num_items=0, embed_dim=8, feedforward_dim=8, num_layers=2, num_heads=2, max_length=8, dropout=0.3),
    pretrain=TrainConfig(batch_size=16, learning_rate=0.005, epochs=3),
    finetune_epochs=2,
    finetune_learning_rate=0.005,
)


def run() -> tuple[dict, list[np.ndarray]]:
    """(what is measured, all parameters of both stages)."""
    genders = [[1 + user % 2] for user in range(107)]
    interactions = random_interactions(107, 60, (3, 11), attributes={"gender": ("F", "M")}, profile=genders)
    setting = make_setting(interactions, CONFIG, seed=0)
    provided = pretrain(setting, 0.3)
    tuned = finetune(setting, provided.params, provided.hash, 0.3)
    found = {"rows": [], "ranks": [], "devices": jax.local_device_count(), "batch": len(setting.pretrain.rows.history)}
    for usage, result in (("zero_shot", provided), ("fine_tune", tuned)):
        measured = measure(setting, result.params)
        found["ranks"].append([measured.truth.tolist(), measured.targets.tolist()])
        found["rows"] += result_rows(setting, measured, None, {"attack": "bra", "rate": 0.3, "usage": usage})
    return found, jax.tree.leaves((provided.params, tuned.params))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    measurements, arrays = run()
    (folder / "found.json").write_text(json.dumps(measurements))
    np.savez(folder / "params.npz", *arrays)
