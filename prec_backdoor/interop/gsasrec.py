"""gSASRec (github.com/asash/gSASRec-pytorch): the state dict that its training script saves."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from prec_backdoor.errors import UserError
from prec_backdoor.interop.weights import Imported, Weights, find_tensors, heads_of, without_padding
from prec_backdoor.models import ModelConfig

EPSILON = 1e-5


def fits(content: Any) -> bool:
    """Whether these are the tensors of a GSASRec."""
    return "transformer_blocks.0.multihead_attention.query_proj.weight" in find_tensors(content)


def convert(content: Any, options: Mapping[str, Any]) -> Imported:
    """Returns the model of a state dict; `options` needs num_heads, which the file does not have.

    Raises:
      UserError: it is incomplete, of another architecture, or num_heads is missing.
    """
    weights = Weights(find_tensors(content), "gSASRec")
    rows, width = weights.shape("item_embedding.weight")
    length, _ = weights.shape("position_embedding.weight")
    if rows < 3:
        raise UserError("the file's table item_embedding.weight has no items")
    heads, layers = heads_of(width, options), weights.layers(r"transformer_blocks\.(\d+)\.")
    inner = weights.shape("transformer_blocks.0.dense1.weight")[0]
    encoder = {
        "Embed_0": {"embedding": weights.take("position_embedding.weight", length, width)},
        "norm_final": weights.norm("seq_norm", width),
    }
    for layer in range(layers):
        name = f"transformer_blocks.{layer}"
        parts = {"query": "query_proj", "key": "key_proj", "value": "val_proj"}
        encoder |= {
            f"attention_{layer}": {
                part: weights.dense(f"{name}.multihead_attention.{own}", width, width) for part, own in parts.items()
            },
            f"norm_attention_{layer}": weights.norm(f"{name}.first_norm", width),
            f"norm_feedforward_{layer}": weights.norm(f"{name}.second_norm", width),
            f"feedforward_in_{layer}": weights.dense(f"{name}.dense1", width, inner),
            f"feedforward_out_{layer}": weights.dense(f"{name}.dense2", inner, width),
        }
    tied = "output_embedding.weight" not in weights

    def table(name: str) -> np.ndarray:
        return without_padding(weights.take(name, rows, width)[:-1])  # the first and the last row stand for no item

    params = {"items": table("item_embedding.weight"), "encoder": encoder}
    if not tied:
        params["output_items"] = table("output_embedding.weight")
    weights.finish()
    model = ModelConfig(
        num_items=rows - 2,
        embed_dim=width,
        feedforward_dim=inner,
        num_layers=layers,
        num_heads=heads,
        max_length=length,
        output_items=not tied,
        parameters={
            "norm": "query",
            "activation": "relu",
            "epsilon": EPSILON,
            "final_epsilon": EPSILON,
            "input_norm": False,
            "final_norm": True,
            "output_projection": False,
        },
    )
    size = f"{model.num_items} items, {layers} layers, width {width}, histories of {length}"
    return Imported(f"gSASRec, {'one table' if tied else 'a table of its own for scoring'}, {size}", model, params, None)
