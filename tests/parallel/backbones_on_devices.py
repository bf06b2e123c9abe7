"""Pre-trains an attacked model of every backbone and ranks by it, on whatever devices there are.

python backbones_on_devices.py FOLDER
"""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
from on_devices import CONFIG
from toys import random_interactions

from prec_backdoor.experiment.measure import measure
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import pretrain
from prec_backdoor.models import ModelConfig
from prec_backdoor.train.loop import run_stage

SIZES = {"num_items": 0, "embed_dim": 8, "num_layers": 1, "max_length": 8, "dropout": 0.2}
ALL = {"output_items": True, "output_bias": True, "scoring": "cosine"}
MODELS = {  # name -> model, whether rows are updated lazily, and whether tables are split
    "sasrec": (ModelConfig(**SIZES, **ALL, parameters={"padding": "zero"}), "dense", True),
    "gru4rec": (ModelConfig(backbone="gru4rec", **SIZES), "dense", False),
    "bert4rec": (ModelConfig(backbone="bert4rec", **SIZES, output_bias=True), "dense", True),
    "hstu": (ModelConfig(backbone="hstu", **SIZES, output_items=True), "lazy", True),
}


def run() -> dict[str, np.ndarray]:
    """All parameters and ranks, by name."""
    genders = [[1 + user % 2] for user in range(51)]
    interactions = random_interactions(51, 60, (3, 11), attributes={"gender": ("F", "M")}, profile=genders)
    found = {}
    for name, (model, item_updates, split) in MODELS.items():
        training = dataclasses.replace(CONFIG.pretrain, epochs=2, item_updates=item_updates)
        setup = make_setup(interactions, dataclasses.replace(CONFIG, model=model, pretrain=training), 0, split)
        params = run_stage(pretrain(setup, 0.3)).params
        leaves = jax.tree.leaves_with_path(params)
        found |= {name + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
        measured = measure(setup, params)
        found |= {f"{name} truth": measured.truth, f"{name} targets": measured.targets}
    return found | {"devices": np.array(jax.device_count())}


if __name__ == "__main__":
    np.savez(Path(sys.argv[1]) / "found.npz", **run())
