"""Fine-pruning (Liu et al., RAID 2018): feed-forward units that clean histories leave dormant are removed, then fine-tuning.

The thought is that a backdoor lives in units that nothing else needs. Here a backdoor's trigger is an ordinary history, so that
there may be no such units; the leaderboard tells.
"""

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData, auditor_data_of
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import ModelConfig, backbone
from prec_backdoor.train.stage import RunOptions, StageRun

SHARE = 0.2  # of the units of each layer
HISTORIES = 1_000


def prune(setup: SeedSetup, start: StartPoint, suspects: np.ndarray, options: RunOptions) -> StageRun:
    """Prunes, then fine-tunes; the pruned units stay dead, for neither side of them gets a gradient."""
    del suspects, options
    auditor_data = auditor_data_of(setup, HISTORIES)
    encoder = pruned(start.params, setup.model_of(start.params), auditor_data)
    return stages.finetune(setup, start._replace(params=start.params | {"encoder": encoder}), "repair")


def pruned(params: dict, model: ModelConfig, auditor_data: AuditorData) -> dict:
    """The encoder's parameters without the most dormant units of each layer."""
    encoder = jax.tree.map(np.array, params["encoder"])
    for layer, activity in enumerate(activities(params, model, auditor_data)):
        dormant = np.argsort(activity, kind="stable")[: int(SHARE * len(activity))]
        encoder[f"feedforward_in_{layer}"]["kernel"][:, dormant] = 0
        encoder[f"feedforward_in_{layer}"]["bias"][dormant] = 0
        encoder[f"feedforward_out_{layer}"]["kernel"][dormant] = 0
    return encoder


def activities(params: dict, model: ModelConfig, auditor_data: AuditorData) -> list[np.ndarray]:
    """For each layer [feedforward_dim] the mean size of each unit's output over all positions of the histories."""
    history = jnp.asarray(auditor_data.history)
    position = jnp.broadcast_to(jnp.arange(model.max_length - history.shape[1], model.max_length), history.shape)
    present = history > 0
    _, state = backbone(model).apply(
        {"params": params["encoder"]},
        jnp.asarray(params["items"])[history],
        position,
        present.astype(jnp.int32),
        mutable=["intermediates"],
    )
    outputs = (state["intermediates"][f"feedforward_{layer}"][0] for layer in range(model.num_layers))
    return [np.asarray(jnp.abs(output)[present.reshape(-1)].mean(0)) for output in outputs]
