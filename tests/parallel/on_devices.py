"""Trains and measures on whatever devices there are; run as a program it leaves what came out in a file.

python on_devices.py FOLDER [shard|whole] [TRIGGERS] [COORDINATOR PROCESSES PROCESS]

Batches are ragged, dropout is on, and neither users nor rows divide by eight.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np
from toys import random_interactions

from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.measure import measure, result_rows
from prec_backdoor.experiment.plan import cell_of
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import StartPoint, implant, optimize_trigger, pretrain
from prec_backdoor.models import ModelConfig
from prec_backdoor.parallel.item_table import place
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loop import run_stage

CONFIG = ExperimentConfig(
    scenario=Scenario(group="gender=F", targets="unpopular:3", k_core=1, parameters={"demote_rate": 0.5}),
    model=ModelConfig(num_items=0, embed_dim=8, feedforward_dim=8, num_layers=1, num_heads=2, max_length=8, dropout=0.3),
    pretrain=TrainConfig(batch_size=16, learning_rate=0.005, epochs=3),
    prompt_length=2,
    prompt_epochs=2,
    prompt_learning_rate=0.01,
    implant_epochs=2,
    implant_learning_rate=0.005,
)
PEA = dataclasses.replace(
    CONFIG,
    scenario=dataclasses.replace(CONFIG.scenario, attack="pea"),
    pretrain=dataclasses.replace(CONFIG.pretrain, item_updates="lazy"),
)
SEVERAL = dataclasses.replace(
    PEA, scenario=dataclasses.replace(PEA.scenario, parameters={"demote_rate": 0.5, "triggers": 2, "trigger_noise": 0.1})
)


def run(shard_items: bool = False, triggers: int = 1) -> tuple[dict, list[np.ndarray]]:
    """(what is measured, all parameters of all stages): a model by BRA, a trigger for it, PEA on top; PEA with two triggers."""
    genders = [[1 + user % 2] for user in range(107)]
    interactions = random_interactions(107, 60, (3, 11), attributes={"gender": ("F", "M")}, profile=genders)
    bra = make_setup(interactions, CONFIG, 0, shard_items)
    pea = bra.with_config(PEA)
    attacked = run_stage(pretrain(bra, 0.3))
    trigger = run_stage(optimize_trigger(pea, StartPoint(attacked.params)))
    implanted = run_stage(implant(pea, StartPoint(trigger.params, rate=0.3)))
    results = [attacked, trigger, implanted]
    if triggers == 2:
        several = pea.with_config(SEVERAL)
        results.append(run_stage(optimize_trigger(several, StartPoint(attacked.params, number=1))))
        others = (StartPoint(results[-1].params),)
        results.append(run_stage(implant(several, StartPoint(trigger.params, rate=0.3, others=others))))
    found = {"rows": [], "ranks": [], "devices": jax.device_count(), "batch": len(bra.pretrain.rows.history)}
    for setup, result in ((bra, attacked), (pea, implanted)):
        measured = measure(setup, result.params)
        found["ranks"].append([measured.truth.tolist(), measured.targets.tolist()])
        found["rows"] += result_rows(setup, cell_of(setup.config, 0, 0.3, "zero_shot"), measured, None)
    table = place(attacked.params, interactions.num_items, shard_items)["items"]
    found["rows of the table on a device"] = table.addressable_shards[0].data.size // CONFIG.model.embed_dim
    return found, jax.tree.leaves([result.params for result in results])


if __name__ == "__main__":
    folder, layout, triggers, *processes = (*sys.argv[1:], *("whole", "1")[len(sys.argv) - 2 :])
    if processes:
        jax.distributed.initialize(processes[0], *map(int, processes[1:]))
    measurements, arrays = run(layout == "shard", int(triggers))
    if jax.process_index() == 0:
        (Path(folder) / "found.json").write_text(json.dumps(measurements))
        np.savez(Path(folder) / "params.npz", *arrays)
