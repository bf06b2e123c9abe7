"""RecBole (github.com/RUCAIBox/RecBole): SASRec, GRU4Rec and BERT4Rec, as its trainer saves them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from prec_backdoor.errors import UserError
from prec_backdoor.interop.placeholder import Placeholder
from prec_backdoor.interop.weights import Imported, Weights, find_tensors, heads_of, setting, without_padding
from prec_backdoor.models import ModelConfig

_BLOCK = r"trm_encoder\.layer\.(\d+)\."
_CLASSES = ("SASRec", "GRU4Rec", "BERT4Rec")
_ACTIVATIONS = {"gelu": "gelu", "relu": "relu"}
EPSILON = 1e-12


def fits(content: Any) -> bool:
    """Whether this is a checkpoint of RecBole's trainer, or the state dict in one."""
    tensors = find_tensors(content)
    named = any(name.startswith(("trm_encoder.layer.", "gru_layers.weight_")) for name in tensors)
    return named or _is_config(content.get("config") if isinstance(content, dict) else None)


def convert(content: Any, options: Mapping[str, Any]) -> Imported:
    """Returns the model of a checkpoint; `options` may have num_heads and max_length, for a file without RecBole's config.

    Raises:
      UserError: it is another model, incomplete, or has a part that this program's backbones do not have.
    """
    tensors, config = find_tensors(content), _config(content)
    if any(name.startswith("moe_adaptor.") for name in tensors):
        raise UserError("the model is UniSRec, whose items are texts; it has no table of items, and cannot be imported")
    name = setting(config, "model", "", str)
    if name and name not in _CLASSES:
        raise UserError(f"the file's config says model {name!r:.40}; of RecBole's models, {', '.join(_CLASSES)} are read")
    if any(tensor.startswith("gru_layers.") for tensor in tensors):
        found, read = "GRU4Rec", _gru4rec
    elif "output_ffn.weight" in tensors:
        found, read = "BERT4Rec", _bert4rec
    else:
        found, read = "SASRec", _sasrec
    if name not in ("", found):
        raise UserError(f"the file's config says model {name}, its tensors are those of a {found}")
    weights = Weights(tensors, f"{found} of RecBole")
    model, params = read(weights, config, options)
    weights.finish()
    size = f"{model.num_items} items, {model.num_layers} layers, width {model.embed_dim}, histories of {model.max_length}"
    return Imported(f"RecBole {found}, {size}", model, params, None)


def _is_config(config: Any) -> bool:
    return isinstance(config, Placeholder) and config.name.startswith("recbole.config")


def _config(content: Any) -> dict:
    """The settings that RecBole's Config object has; empty without one."""
    config = content.get("config") if isinstance(content, dict) else None
    state = config.state if _is_config(config) else None
    found = state.get("final_config_dict") if isinstance(state, dict) else None
    return found if isinstance(found, dict) else {}


def _sasrec(weights: Weights, config: dict, options: Mapping) -> tuple[ModelConfig, dict]:
    rows, width = weights.shape("item_embedding.weight")
    activation = setting(config, "hidden_act", "gelu", str)
    if activation not in _ACTIVATIONS:
        raise UserError(f"the file's config says hidden_act={activation!r:.20}; {', '.join(_ACTIVATIONS)} are read")
    own = {"norm": "post", "activation": _ACTIVATIONS[activation], "epsilon": _epsilon(config), "positions": "oldest"}
    encoder, sizes = _transformer(weights, width, config, options)
    model = ModelConfig(num_items=_catalogue(rows - 1), embed_dim=width, **sizes, parameters=own)
    return model, {"items": without_padding(weights.take("item_embedding.weight", rows, width)), "encoder": encoder}


def _bert4rec(weights: Weights, config: dict, options: Mapping) -> tuple[ModelConfig, dict]:
    rows, width = weights.shape("item_embedding.weight")
    if setting(config, "hidden_act", "gelu", str) != "gelu" or _epsilon(config) != EPSILON:
        raise UserError(f"the file's config says another hidden_act than gelu or another layer_norm_eps than {EPSILON}")
    encoder, sizes = _transformer(weights, width, config, options)
    encoder |= {"head": weights.dense("output_ffn", width, width), "norm_head": weights.norm("output_ln", width)}
    model = ModelConfig(
        num_items=_catalogue(rows - 2),
        embed_dim=width,
        **sizes,
        backbone="bert4rec",
        output_bias=True,
        parameters={"drop_oldest": True},
    )
    table = weights.take("item_embedding.weight", rows, width)
    bias = weights.take("output_bias", rows - 1)[:, None]
    bias[0] = 0
    table[0] = table[-1]  # the mask
    return model, {"items": table[:-1], "output_bias": bias, "encoder": encoder}


def _gru4rec(weights: Weights, config: dict, options: Mapping) -> tuple[ModelConfig, dict]:
    rows, width = weights.shape("item_embedding.weight")
    hidden = weights.shape("gru_layers.weight_hh_l0")[1]
    layers = weights.layers(r"gru_layers\.weight_ih_l(\d+)$")
    encoder = {}
    for layer in range(layers):
        inputs = hidden if layer else width
        encoder[f"layer_{layer}"] = {
            "input": np.ascontiguousarray(weights.take(f"gru_layers.weight_ih_l{layer}", 3 * hidden, inputs).T),
            "hidden": np.ascontiguousarray(weights.take(f"gru_layers.weight_hh_l{layer}", 3 * hidden, hidden).T),
        }
    encoder["dense"] = weights.dense("dense", hidden, width)
    length = config.get("MAX_ITEM_LIST_LENGTH", options.get("max_length"))
    if type(length) is not int or not 0 < length < 1 << 20:
        raise UserError("the file does not say how long histories are; give --max_length as in its training")
    model = ModelConfig(
        num_items=_catalogue(rows - 1),
        embed_dim=width,
        num_layers=layers,
        max_length=length,
        backbone="gru4rec",
        parameters={"hidden_dim": hidden},
    )
    return model, {"items": without_padding(weights.take("item_embedding.weight", rows, width)), "encoder": encoder}


def _transformer(weights: Weights, width: int, config: dict, options: Mapping) -> tuple[dict, dict]:
    """Returns the encoder's parameters and the sizes of the blocks."""
    layers, (length, _) = weights.layers(_BLOCK), weights.shape("position_embedding.weight")
    inner = weights.shape("trm_encoder.layer.0.feed_forward.dense_1.weight")[0]
    encoder = {
        "Embed_0": {"embedding": weights.take("position_embedding.weight", length, width)},
        "norm_in": weights.norm("LayerNorm", width),
    }
    for layer in range(layers):
        name = f"trm_encoder.layer.{layer}"
        attention, feedforward = f"{name}.multi_head_attention", f"{name}.feed_forward"
        parts = {"query": "query", "key": "key", "value": "value", "out": "dense"}
        encoder |= {
            f"attention_{layer}": {part: weights.dense(f"{attention}.{own}", width, width) for part, own in parts.items()},
            f"norm_attention_{layer}": weights.norm(f"{attention}.LayerNorm", width),
            f"feedforward_in_{layer}": weights.dense(f"{feedforward}.dense_1", width, inner),
            f"feedforward_out_{layer}": weights.dense(f"{feedforward}.dense_2", inner, width),
            f"norm_feedforward_{layer}": weights.norm(f"{feedforward}.LayerNorm", width),
        }
    heads = heads_of(width, options, config.get("n_heads"))
    return encoder, {"num_layers": layers, "num_heads": heads, "feedforward_dim": inner, "max_length": length}


def _epsilon(config: dict) -> float:
    epsilon = config.get("layer_norm_eps", EPSILON)
    if isinstance(epsilon, str):  # YAML reads 1e-12 as a text
        try:
            epsilon = float(epsilon)
        except ValueError:
            epsilon = -1.0
    if type(epsilon) is not float or not 0 <= epsilon < 1:
        raise UserError("the file's config says a layer_norm_eps that is no number from 0 to 1")
    return epsilon


def _catalogue(items: int) -> int:
    if items < 1:
        raise UserError("the file's table item_embedding.weight has no items")
    return items
