"""Fine-pruning (Liu et al., RAID 2018): removes the feed-forward units that are least active on clean histories, then fine-tunes.

The method assumes that a backdoor uses units that clean data leave dormant. Here the trigger is an ordinary history, so that such
units need not exist (docs/audit.md has figures).
"""

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.audit.auditor_data import AuditorData, auditor_data_of
from prec_backdoor.errors import UserError
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import ModelConfig, backbone, query
from prec_backdoor.train.stage import RunOptions, StageRun

SHARE = 0.2  # of the units of each layer
HISTORIES = 1_000


def prune(setup: SeedSetup, start: StartPoint, suspects: np.ndarray, options: RunOptions) -> StageRun:
    """Prunes, then fine-tunes. Pruned units stay at 0, as neither their inputs nor their outputs get a gradient."""
    del suspects, options
    model = setup.model_of(start.params)
    check_feedforward(model)
    encoder = pruned(start.params, model, auditor_data_of(setup, HISTORIES))
    return stages.finetune(setup, start._replace(params=start.params | {"encoder": encoder}), "repair")


def check_feedforward(model: ModelConfig) -> None:
    """Checks for the intermediates and parameters that `pruned` uses, those of SASRec's feed-forward layers.

    Raises:
      UserError: the backbone lacks some of them.
    """
    vectors, index = jnp.zeros((1, 1, model.embed_dim)), jnp.ones((1, 1), jnp.int32)

    def initialise(key):
        return backbone(model).init_with_output(key, vectors, index, index, mutable=["params", "intermediates"])[1]

    state = jax.eval_shape(initialise, jax.random.key(0))
    params, intermediates = state.get("params", {}), state.get("intermediates", {})
    for layer in range(model.num_layers):
        lacking = [f"intermediates feedforward_{layer}"] if f"feedforward_{layer}" not in intermediates else []
        lacking += [
            f"parameters {name}" for name in (f"feedforward_in_{layer}", f"feedforward_out_{layer}") if name not in params
        ]
        if lacking:
            raise UserError(
                f"repair prune: backbone {model.backbone} lacks {', '.join(lacking)}; it needs feed-forward layers named and "
                "sown as in SASRec; choose another repair"
            )


def pruned(params: dict, model: ModelConfig, auditor_data: AuditorData) -> dict:
    """The encoder's parameters with the SHARE least active units of each layer set to 0."""
    encoder = jax.tree.map(np.array, params["encoder"])
    for layer, activity in enumerate(activities(params, model, auditor_data)):
        dormant = np.argsort(activity, kind="stable")[: int(SHARE * len(activity))]
        encoder[f"feedforward_in_{layer}"]["kernel"][:, dormant] = 0
        encoder[f"feedforward_in_{layer}"]["bias"][dormant] = 0
        encoder[f"feedforward_out_{layer}"]["kernel"][dormant] = 0
    return encoder


def activities(params: dict, model: ModelConfig, auditor_data: AuditorData) -> list[np.ndarray]:
    """For each layer, [feedforward_dim] mean absolute output of each unit over all positions of the histories."""
    history, *place = query(model, jnp.asarray(auditor_data.history))
    vectors, present = jnp.asarray(params["items"])[history], history > 0
    _, state = backbone(model).apply({"params": params["encoder"]}, vectors, *place, mutable=["intermediates"])
    outputs = (state["intermediates"][f"feedforward_{layer}"][0] for layer in range(model.num_layers))
    return [np.asarray(jnp.abs(output)[present.reshape(-1)].mean(0)) for output in outputs]
