"""Writes a SASRec of this program as RecBole's trainer would, without RecBole and without torch."""

from pathlib import Path

import numpy as np

from interop.torch_files import mapping, tensor, write

PARAMETERS = {"activation": "gelu", "epsilon": 1e-12, "positions": "oldest"}  # of a SASRec that RecBole's can be


def write_recbole(path: Path, params: dict, num_layers: int) -> Path:
    """Writes the state dict with row 0 as [PAD]; `params` are those of a model with PARAMETERS."""
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in _state(params, num_layers).items()}
    tensors, data = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        stride = tuple(step // array.itemsize for step in array.strides)
        tensors[name] = tensor(array.shape, stride, key=str(key), elements=array.size)
        data[str(key)] = array.tobytes()
    return write(path, mapping(state_dict=mapping(**tensors)), data)


def _state(params: dict, num_layers: int) -> dict[str, np.ndarray]:
    encoder = params["encoder"]
    state = {"item_embedding.weight": params["items"], "position_embedding.weight": encoder["Embed_0"]["embedding"]}
    state |= _norm("LayerNorm", encoder["norm_in"])
    for layer in range(num_layers):
        block = f"trm_encoder.layer.{layer}"
        for ours, theirs in (("query", "query"), ("key", "key"), ("value", "value"), ("out", "dense")):
            state |= _dense(f"{block}.multi_head_attention.{theirs}", encoder[f"attention_{layer}"][ours])
        state |= _norm(f"{block}.multi_head_attention.LayerNorm", encoder[f"norm_attention_{layer}"])
        state |= _dense(f"{block}.feed_forward.dense_1", encoder[f"feedforward_in_{layer}"])
        state |= _dense(f"{block}.feed_forward.dense_2", encoder[f"feedforward_out_{layer}"])
        state |= _norm(f"{block}.feed_forward.LayerNorm", encoder[f"norm_feedforward_{layer}"])
    return state


def _dense(name: str, layer: dict) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.asarray(layer["kernel"]).T, f"{name}.bias": layer["bias"]}


def _norm(name: str, layer: dict) -> dict[str, np.ndarray]:
    return {f"{name}.weight": layer["scale"], f"{name}.bias": layer["bias"]}
