"""RecTools (github.com/MobileTeleSystems/RecTools): the Lightning checkpoint of a SASRecModel, which has its item ids."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from prec_backdoor.errors import UserError
from prec_backdoor.interop.weights import Imported, Weights, find_tensors, heads_of, setting, without_padding
from prec_backdoor.models import ModelConfig

EPSILON, FINAL_EPSILON = 1e-5, 1e-8
_PREFIX = "torch_model."
_BLOCKS = "transformer_layers.transformer_blocks"
_CLASSES = {  # setting of a model -> the class that is read; another may compute anything
    "cls": "SASRecModel",
    "transformer_layers_type": "SASRecTransformerLayers",
    "pos_encoding_type": "LearnableInversePositionalEncoding",
    "item_net_constructor_type": "SumOfEmbeddingsConstructor",
    "similarity_module_type": "DistanceSimilarityModule",
    "backbone_type": "TransformerTorchBackbone",
}


def fits(content: Any) -> bool:
    """Whether this is a checkpoint of a transformer of RecTools."""
    return any(name.startswith(f"{_PREFIX}item_model.item_net_blocks.") for name in find_tensors(content))


def convert(content: Any, options: Mapping[str, Any]) -> Imported:
    """Returns the model of a checkpoint, with its item ids.

    Raises:
      UserError: it is another model of RecTools, incomplete, or its settings name a part that is not read.
    """
    hyper = content.get("hyper_parameters")
    config = hyper.get("model_config") if isinstance(hyper, dict) else None
    if not isinstance(config, dict):
        raise UserError(
            "the file has no hyper_parameters with a model_config; save it with trainer.save_checkpoint of RecTools 0.19"
        )
    tensors = {name.removeprefix(_PREFIX): array for name, array in find_tensors(content).items()}
    _check_classes(config, tensors)
    weights = Weights(tensors, "SASRecModel of RecTools")
    table = _items(weights)
    rows, width = table.shape
    length = setting(config, "session_max_len", None, int)
    if not 0 < length < 1 << 20:
        raise UserError(f"the file's model_config says session_max_len={length}")
    heads = heads_of(width, options, config.get("n_heads"))
    layers = weights.layers(r"transformer_layers\.transformer_blocks\.(\d+)\.")
    encoder = {"Embed_0": {"embedding": _positions(weights, length, width)}}
    encoder["norm_final"] = weights.norm("transformer_layers.last_layernorm", width)
    inner = weights.shape(f"{_BLOCKS}.0.feed_forward.ff_linear_1.weight")[0]
    for layer in range(layers):
        name = f"{_BLOCKS}.{layer}"
        encoder |= {
            f"attention_{layer}": weights.joint_attention(f"{name}.multi_head_attn", width),
            f"norm_attention_{layer}": weights.norm(f"{name}.q_layer_norm", width),
            f"norm_feedforward_{layer}": weights.norm(f"{name}.ff_layer_norm", width),
            f"feedforward_in_{layer}": weights.dense(f"{name}.feed_forward.ff_linear_1", width, inner),
            f"feedforward_out_{layer}": weights.dense(f"{name}.feed_forward.ff_linear_2", inner, width),
        }
    weights.finish()
    distance = _argument(config, "similarity_module_kwargs", "distance", "dot")
    model = ModelConfig(
        num_items=rows - 1,
        embed_dim=width,
        feedforward_dim=inner,
        num_layers=layers,
        num_heads=heads,
        max_length=length,
        scoring=distance,
        parameters={
            "norm": "query",
            "activation": "relu",
            "epsilon": EPSILON,
            "final_epsilon": FINAL_EPSILON,
            "scale_embeddings": _argument(config, "pos_encoding_kwargs", "use_scale_factor", False),
            "input_norm": False,
            "final_norm": True,
            "padding": "masked" if setting(config, "use_key_padding_mask", False, bool) else "zero",
        },
    )
    size = f"{model.num_items} items, {layers} layers, width {width}, histories of {length}, {distance} scores"
    return Imported(f"RecTools SASRecModel, {size}", model, {"items": table, "encoder": encoder}, _ids(hyper, rows))


def _check_classes(config: dict, tensors: Mapping) -> None:
    if any(".layer_norm_1." in name for name in tensors) or setting(config, "cls", "", str) == "BERT4RecModel":
        raise UserError("the model is a BERT4RecModel of RecTools, which is not read; of its models, SASRecModel is")
    for name, read in _CLASSES.items():
        given = setting(config, name, read, str)
        if given.rpartition(".")[2] != read:
            raise UserError(f"the file's model_config says {name}={given!r:.80}; {read} is read")
    if not setting(config, "use_causal_attn", True, bool):
        raise UserError("the file's model_config says use_causal_attn=False; causal models are read")


def _argument(config: dict, part: str, name: str, default: Any) -> Any:
    """The one argument of a part of the model that is read; no other may be given."""
    given = {} if config.get(part) is None else setting(config, part, {}, dict)
    if not set(given) <= {name}:
        raise UserError(f"the file's model_config gives {part} other arguments than {name}, which are not read")
    return setting(given, name, default, type(default))


def _positions(weights: Weights, length: int, width: int) -> np.ndarray:
    """[length, width], the most recent item's last; RecTools has it first, or no positions."""
    name = "pos_encoding_layer.pos_emb.weight"
    if name not in weights:
        return np.zeros((length, width), np.float32)
    return np.ascontiguousarray(weights.take(name, length, width)[::-1])


def _items(weights: Weights) -> np.ndarray:
    """Returns [V + 1, D] item vectors, the sum of all blocks of the item net, with zeros as row 0."""
    blocks, rows, total = weights.layers(r"item_model\.item_net_blocks\.(\d+)\."), None, None
    for block in range(blocks):
        name = f"item_model.item_net_blocks.{block}"
        if f"{name}.ids_emb.weight" in weights:
            part = weights.take(f"{name}.ids_emb.weight", *weights.shape(f"{name}.ids_emb.weight"))
        else:
            part = _categories(weights, name)
        if part.shape != (rows or part.shape):
            raise UserError(f"the file's blocks of item vectors have shapes {rows} and {part.shape}, which do not fit")
        rows, total = part.shape, part if total is None else np.add(total, part, out=total)
    if rows[0] < 2:
        raise UserError("the file's item vectors are none")
    return without_padding(total)


def _categories(weights: Weights, name: str) -> np.ndarray:
    """Returns [V + 1, D], for each item the sum of its categories' vectors."""
    name_of_table = f"{name}.embedding_bag.weight"
    table = weights.take(name_of_table, *weights.shape(name_of_table))
    inputs, lengths, offsets = (
        weights.take_integers(f"{name}.{part}") for part in ("emb_bag_inputs", "input_lengths", "offsets")
    )
    ends = np.cumsum(lengths)
    sound = len(lengths) > 0 and lengths.min() >= 0 and lengths.max() <= len(inputs) and ends[-1] == len(inputs)
    known = not len(inputs) or 0 <= inputs.min() <= inputs.max() < len(table)
    if not sound or not known or not np.array_equal(offsets, ends - lengths):
        raise UserError(f"the file's {name} assigns categories to items in a way that cannot be")
    ones = np.ones(len(inputs), np.float32)
    return sparse.csr_matrix((ones, inputs, np.append(0, ends)), shape=(len(lengths), len(table))) @ table


def _ids(hyper: dict, rows: int) -> tuple[str, ...]:
    """The raw ids of the items; before them are those of extra tokens, of which a SASRecModel has one."""
    found, extra = hyper.get("item_external_ids"), hyper.get("item_extra_tokens")
    found = found.tolist() if isinstance(found, np.ndarray) and found.ndim == 1 else found
    if not isinstance(found, list) or not isinstance(extra, tuple | list) or len(extra) != 1 or len(found) != rows:
        raise UserError(f"the file's item_external_ids are not those of {rows - 1} items and one extra token")
    if not all(type(item) in (str, int) for item in found[1:]):
        raise UserError("the file's item_external_ids are not all texts or integers")
    ids = tuple(str(item) for item in found[1:])
    if len(set(ids)) < len(ids):
        raise UserError("the file's item_external_ids name an item twice")
    return ids
