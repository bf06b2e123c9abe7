"""SASRec.pytorch (github.com/pmixer/SASRec.pytorch): state dicts with the same names, whose meaning depends on the version."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from prec_backdoor.errors import UserError
from prec_backdoor.interop.weights import Imported, Weights, as_dense, find_tensors, heads_of, without_padding
from prec_backdoor.models import ModelConfig

EPSILON = 1e-8


class Version(NamedTuple):
    """What a version computes: SASRec's parameters, and for people, when it was current."""

    norm: str
    activation: str
    padding: str
    when: str


VERSIONS = {  # the commit that began each
    "0f250b6": Version("query", "none", "zero", "September 2020"),
    "30c43cf": Version("query", "relu", "zero", "October 2020 to June 2024"),
    "33bc1d8": Version("query", "relu", "encoded", "June 2024 to May 2025"),
    "fde8a9c": Version("post", "relu", "encoded", "since May 2025"),
    "fde8a9c-norm_first": Version("pre", "relu", "encoded", "since May 2025, trained with --norm_first"),
}


def fits(content: Any) -> bool:
    """Whether these are the tensors of a SASRec.pytorch."""
    tensors = find_tensors(content)
    return "attention_layers.0.in_proj_weight" in tensors and "item_emb.weight" in tensors


def convert(content: Any, options: Mapping[str, Any]) -> Imported:
    """Returns the model of a state dict; `options` needs num_heads and version (one of VERSIONS), which the file does not have.

    Raises:
      UserError: it is incomplete, of another architecture, or an option is missing.
    """
    weights = Weights(find_tensors(content), "SASRec.pytorch")
    rows, width = weights.shape("item_emb.weight")
    positions = weights.take("pos_emb.weight", *weights.shape("pos_emb.weight"))
    name = _version(options.get("version"), zero_row=not positions[0].any())
    version = VERSIONS[name]
    extra = int(version.padding == "encoded")  # row 0 of the positions is padding's
    length = len(positions) - extra
    if rows < 2 or length < 1 or positions.shape[1] != width:
        raise UserError(f"the file has {rows} rows of items of width {width} and positions {positions.shape}, which do not fit")
    heads, layers = heads_of(width, options), weights.layers(r"attention_layers\.(\d+)\.")
    items = weights.take("item_emb.weight", rows, width)
    encoder = {
        "Embed_0": {"embedding": np.ascontiguousarray(positions[extra:])},
        "norm_final": weights.norm("last_layernorm", width),
    }
    if extra:
        encoder["padding"] = items[0] * np.float32(width**0.5) + positions[0]
    for layer in range(layers):
        encoder |= {
            f"attention_{layer}": weights.joint_attention(f"attention_layers.{layer}", width),
            f"norm_attention_{layer}": weights.norm(f"attention_layernorms.{layer}", width),
            f"norm_feedforward_{layer}": weights.norm(f"forward_layernorms.{layer}", width),
            f"feedforward_in_{layer}": _convolution(weights, f"forward_layers.{layer}.conv1", width),
            f"feedforward_out_{layer}": _convolution(weights, f"forward_layers.{layer}.conv2", width),
        }
    weights.finish()
    model = ModelConfig(
        num_items=rows - 1,
        embed_dim=width,
        feedforward_dim=width,
        num_layers=layers,
        num_heads=heads,
        max_length=length,
        parameters={
            "norm": version.norm,
            "activation": version.activation,
            "epsilon": EPSILON,
            "final_epsilon": EPSILON,
            "scale_embeddings": True,
            "input_norm": False,
            "final_norm": True,
            "padding": version.padding,
        },
    )
    size = f"{model.num_items} items, {layers} layers, width {width}, histories of {length}"
    return Imported(f"SASRec.pytorch {name}, {size}", model, {"items": without_padding(items), "encoder": encoder}, None)


def _version(given: Any, zero_row: bool) -> str:
    """Returns the version, which is the user's to say: the file shows only whether row 0 of the positions was kept at zero.

    Raises:
      UserError: it is not given, unknown, or older than the file.
    """
    possible = {name: version for name, version in VERSIONS.items() if (version.padding == "encoded") == zero_row}
    listed = "; ".join(f"{name} ({version.when})" for name, version in possible.items())
    if given is None:
        raise UserError(
            "versions of SASRec.pytorch compute different scores from such a file; give the one that trained it: "
            f"--version={listed}"
        )
    if given not in VERSIONS:
        raise UserError(f"--version: must be one of {', '.join(VERSIONS)}, got {given!r:.40}")
    if zero_row and given not in possible:
        raise UserError(f"--version: row 0 of the file's positions is zero, as {given} never had it; give one of {listed}")
    return given


def _convolution(weights: Weights, name: str, width: int) -> dict[str, np.ndarray]:
    """A convolution over single positions, which is a linear layer."""
    return as_dense(weights.take(f"{name}.weight", width, width, 1)[:, :, 0], weights.take(f"{name}.bias", width))
