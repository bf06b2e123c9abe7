"""What a backbone learns from a batch: the next item of every position, or masked items of a history."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from prec_backdoor.data.batches import Batch
from prec_backdoor.models import BACKBONES, ModelConfig, backbone_parameters

Objective = Callable[[jax.Array, Batch], Batch]  # (keys [B], batch) -> batch


def objective(model: ModelConfig) -> Objective | None:
    """Returns the transformation of batches, before the attack's, that the model's backbone needs; None for the next item."""
    if getattr(BACKBONES[model.backbone], "objective", "next") == "next":
        return None
    default = {name: value for name, (value, _) in backbone_parameters(model.backbone).items()}
    rates = {name: model.parameters.get(name, default[name]) for name in ("mask_rate", "mask_last")}
    return jax.vmap(lambda key, row: cloze(key, row, **rates))


def cloze(key: jax.Array, row: Batch, mask_rate: float, mask_last: float) -> Batch:
    """Returns a row [T] in which the items of each segment are its labels, and some of them are masked (BERT4Rec, section 3.6).

    A masked position has item 0 in its history and keeps its label; no other has one. An attack replaces labels of masked
    positions, as it does after this. The first item of a window, which is no label, is left out (decision).

    Args:
      mask_rate: probability that an item is masked.
      mask_last: probability that of a segment the last item alone is masked, as it is in ranking.
    """
    item_key, segment_key = jax.random.split(key)
    length = row.label.shape[-1]
    last = jnp.append(row.segment[1:] != row.segment[:-1], True)
    last_alone = jax.random.bernoulli(segment_key, mask_last, (length + 1,))[row.segment]
    masked = jnp.where(last_alone, last, jax.random.bernoulli(item_key, mask_rate, (length,))) & (row.label > 0)
    return row._replace(history=jnp.where(masked, 0, row.label), label=jnp.where(masked, row.label, 0))
