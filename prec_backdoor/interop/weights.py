"""Tensors of a state dict, taken by name with their shapes checked, and laid out as this program's encoders have them."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.lib.array_utils import byte_bounds

from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig

MAX_LAYERS = 256
_WRAPPERS = ("module.", "_orig_mod.")  # DataParallel and torch.compile put these before every name


class Imported(NamedTuple):
    """A model of another program in this one's form.

    Attributes:
      architecture: one line for people.
      params: numpy float32, as `init_params(key, model)` has them.
      items: [V] raw ids of the codes from 1, or None if the file does not have them.
    """

    architecture: str
    model: ModelConfig
    params: dict
    items: tuple[str, ...] | None


def find_tensors(content: Any) -> dict[str, np.ndarray]:
    """Returns the tensors by name of a state dict, or of the one in a checkpoint; empty if there is none."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        return {}
    found = {name: array for name, array in content.items() if isinstance(name, str) and isinstance(array, np.ndarray)}
    for wrapper in _WRAPPERS:
        if found and all(name.startswith(wrapper) for name in found):
            found = {name.removeprefix(wrapper): array for name, array in found.items()}
    return found


class Weights:
    """The tensors of one model.

    Args:
      what: the architecture that they are taken for, in error lines.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], what: str):
        self.tensors, self.what = dict(tensors), what
        _check_apart(self.tensors, what)
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def _get(self, name: str, kinds: str) -> np.ndarray:
        if name not in self.tensors:
            raise UserError(
                f"the file has no tensor {name}, which a {self.what} needs; it is incomplete or of another architecture"
            )
        self._taken.add(name)
        array = self.tensors[name]
        if array.dtype.kind not in kinds and not ("f" in kinds and array.dtype == ml_dtypes.bfloat16):
            raise UserError(f"tensor {name} has dtype {array.dtype}, which a {self.what} cannot have")
        return array

    def shape(self, name: str, dimensions: int = 2) -> tuple[int, ...]:
        """Returns the shape of a tensor that has so many dimensions, none of them 0."""
        shape = self._get(name, "f").shape
        if len(shape) != dimensions or 0 in shape:
            raise UserError(f"tensor {name} has shape {shape}, a {self.what} needs {dimensions} dimensions, none of them 0")
        return shape

    def take(self, name: str, *shape: int) -> np.ndarray:
        """Returns a tensor of this shape as a float32 array of its own.

        Raises:
          UserError: there is none, it has another shape, or not all of it is finite.
        """
        array = self._get(name, "f")
        if array.shape != shape:
            raise UserError(
                f"tensor {name} has shape {array.shape}, a {self.what} of the sizes of its other tensors needs {shape}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.array(array, np.float32, order="C")
        if found.size and not np.isfinite((found.min(), found.max())).all():
            raise UserError(f"tensor {name} has values that are not finite")
        return found

    def take_integers(self, name: str) -> np.ndarray:
        """Returns a vector of integers."""
        array = self._get(name, "iu")
        if array.ndim != 1:
            raise UserError(f"tensor {name} has shape {array.shape}, a {self.what} needs a vector")
        return np.asarray(array, np.int64)

    def layers(self, pattern: str) -> int:
        """Returns the number of layers, those whose number is the group of `pattern` in the beginning of some name."""
        numbers = {int(found[1]) for name in self.tensors if (found := re.match(pattern, name)) and len(found[1]) < 5}
        if not numbers or numbers != set(range(len(numbers))) or len(numbers) > MAX_LAYERS:
            raise UserError(
                f"the file has layers {sorted(numbers)[:8]}, a {self.what} has 0, 1, ... without gaps, at most {MAX_LAYERS}"
            )
        return len(numbers)

    def dense(self, name: str, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        """Returns kernel [inputs, outputs] and bias of a linear layer."""
        return as_dense(self.take(f"{name}.weight", outputs, inputs), self.take(f"{name}.bias", outputs))

    def norm(self, name: str, width: int) -> dict[str, np.ndarray]:
        """Returns scale and bias of a layer norm."""
        return {"scale": self.take(f"{name}.weight", width), "bias": self.take(f"{name}.bias", width)}

    def joint_attention(self, name: str, width: int) -> dict[str, dict[str, np.ndarray]]:
        """Returns the four products of a torch.nn.MultiheadAttention."""
        kernels = self.take(f"{name}.in_proj_weight", 3 * width, width).reshape(3, width, width)
        biases = self.take(f"{name}.in_proj_bias", 3 * width).reshape(3, width)
        parts = {part: as_dense(*both) for part, *both in zip(("query", "key", "value"), kernels, biases, strict=True)}
        return {**parts, "out": self.dense(f"{name}.out_proj", width, width)}

    def finish(self) -> None:
        """Raises a UserError if there are tensors that have not been taken."""
        if left := sorted(set(self.tensors) - self._taken):
            raise UserError(
                f"the file has {len(left)} tensors that a {self.what} does not have, such as {left[0][:100]!r}; it is of an "
                "architecture that is not read"
            )


def _check_apart(tensors: Mapping[str, np.ndarray], what: str) -> None:
    """Raises a UserError if tensors share memory: copies of them could have any size."""
    places = sorted((*byte_bounds(array), name) for name, array in tensors.items() if array.size)
    for (_, end, name), (start, _, other) in zip(places, places[1:], strict=False):
        if start < end:
            raise UserError(
                f"tensors {name[:100]!r} and {other[:100]!r} share memory, which those of a {what} do not; save copies of them"
            )


def as_dense(weight: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Returns kernel [in, out] and bias of a weight [out, in]."""
    return {"kernel": np.ascontiguousarray(weight.T), "bias": np.ascontiguousarray(bias)}


def without_padding(table: np.ndarray) -> np.ndarray:
    """Returns a table [V + 1, D] whose row 0, which stands for padding, is set to zeros."""
    table[0] = 0
    return table


def setting(config: Mapping[str, Any], name: str, default: Any, kind: type) -> Any:
    """Returns a setting of the file's configuration, the default if it has none.

    Raises:
      UserError: it is not of this kind; its value, which may be of any size, is not shown.
    """
    value = config.get(name, default)
    if type(value) is not kind:
        raise UserError(f"the file's config says {name} is of type {type(value).__name__}, not {kind.__name__}")
    return value


def heads_of(width: int, options: Mapping[str, Any], declared: Any = None) -> int:
    """Returns the number of attention heads that the file declares, or else the options' "num_heads".

    Raises:
      UserError: neither is given, they differ, or the number does not divide the width.
    """
    given = options.get("num_heads")
    if declared is None and given is None:
        raise UserError("the file does not say how many attention heads the model has; give --num_heads as in its training")
    heads = given if declared is None else declared
    if type(heads) is not int or heads < 1 or width % heads:
        got = str(heads)[:20] if type(heads) is int else f"a {type(heads).__name__}"
        raise UserError(f"--num_heads: must divide the width {width}, got {got}")
    if given not in (None, heads):
        raise UserError(f"--num_heads: the file says {heads}, got {given}; leave the flag out")
    return heads
