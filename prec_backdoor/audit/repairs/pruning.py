"""Fine-pruning (Liu et al., RAID 2018): feed-forward units that clean histories leave dormant are removed, then fine-tuning.

The thought is that a backdoor lives in units that nothing else needs. Here a backdoor's trigger is an ordinary history, so that
there may be no such units; the leaderboard tells.
"""

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor import pipeline
from prec_backdoor.audit.known import Known, known_of
from prec_backdoor.models import ModelConfig, backbone
from prec_backdoor.pipeline import Source
from prec_backdoor.setting import Setting
from prec_backdoor.train.stage import StageResult

SHARE = 0.2  # of the units of each layer
HISTORIES = 1_000


def prune(setting: Setting, source: Source, suspects: np.ndarray, **how) -> StageResult:
    """Prunes, then fine-tunes; the pruned units stay dead, for neither side of them gets a gradient."""
    del suspects
    known = known_of(setting, HISTORIES)
    encoder = pruned(source.params, setting.model_of(source.params), known)
    return pipeline.finetune(setting, source._replace(params=source.params | {"encoder": encoder}), "repair", **how)


def pruned(params: dict, model: ModelConfig, known: Known) -> dict:
    """The encoder's parameters without the most dormant units of each layer."""
    encoder = jax.tree.map(np.array, params["encoder"])
    for layer, activity in enumerate(activities(params, model, known)):
        dormant = np.argsort(activity, kind="stable")[: int(SHARE * len(activity))]
        encoder[f"feedforward_in_{layer}"]["kernel"][:, dormant] = 0
        encoder[f"feedforward_in_{layer}"]["bias"][dormant] = 0
        encoder[f"feedforward_out_{layer}"]["kernel"][dormant] = 0
    return encoder


def activities(params: dict, model: ModelConfig, known: Known) -> list[np.ndarray]:
    """For each layer [feedforward_dim] the mean size of each unit's output over all positions of the histories."""
    history = jnp.asarray(known.history)
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
