"""What the known functions in a torch file's pickle stand for: tensors, numpy arrays and dicts, checked before they are made."""

import math
import re
import sys
from typing import Any

import ml_dtypes
import numpy as np

from prec_backdoor.errors import UserError
from prec_backdoor.interop.archive import Archive
from prec_backdoor.interop.placeholder import Placeholder

MAX_DIMENSIONS = 8
MAX_COPIED = 1 << 26  # bytes of numpy arrays
STORAGES = {  # class of torch's -> dtype of its elements
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_NUMPY_DTYPE = re.compile(r"[<>|=]?([biuf][1248]|[SU]\d{1,6}|O8?|O)")
_DICTS = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict")


class Storage(Placeholder):
    """The elements of a storage: bytes of the file, and the dtype that it declares."""

    __slots__ = ("content", "dtype", "elements")

    def __init__(self, name: str, content: memoryview, dtype: np.dtype):
        super().__init__(name, ())
        self.content, self.dtype, self.elements = content, dtype, len(content) // dtype.itemsize


class Rebuilder:
    """The three functions that a `Machine` needs, for the storages of one archive."""

    def __init__(self, archive: Archive):
        self.archive = archive
        self._storages: dict[str, Storage] = {}
        order = archive.read("byteorder") if "byteorder" in archive else b"little"
        if order not in (b"little", b"big"):
            raise UserError(f"the file declares byte order {order[:20]!r}; it is damaged, copy it again")
        self._swap = order.decode() != sys.byteorder
        self._copied = 0

    def storage(self, identity: Any) -> Storage:
        """Returns the storage of a persistent id, ("storage", class, key, device, elements), whose size is that of its entry."""
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
            raise UserError("a persistent id that is no storage of torch's; save the state dict alone")
        _, kind, key, _, elements = identity
        name = kind.name if isinstance(kind, Placeholder) and kind.args is None else ""
        module, _, kind = name.rpartition(".")
        if module not in ("torch", "torch.storage") or kind not in STORAGES or not isinstance(key, str):
            raise UserError(f"a tensor of {name[:60] or 'no class'}, which is not read; save it as float32")
        dtype = np.dtype(ml_dtypes.bfloat16 if STORAGES[kind] == "bfloat16" else STORAGES[kind])
        if key not in self._storages:
            content = self.archive.map(f"data/{key}")
            if self._swap and dtype.itemsize > 1 and len(content) % dtype.itemsize == 0:
                content = memoryview(np.frombuffer(content, f"u{dtype.itemsize}").byteswap().tobytes())
            self._storages[key] = Storage(name, content, dtype)
        found = self._storages[key]
        if type(elements) is not int or found.dtype != dtype or elements * dtype.itemsize != len(found.content):
            raise UserError(
                f"storage {key[:20]} is declared with {str(elements)[:20]} elements of {dtype}, its entry has "
                f"{len(found.content)} bytes; the file is damaged, copy it again"
            )
        return found

    def tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> np.ndarray:
        """Returns a read-only view of a storage."""
        if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise UserError("a tensor without a storage, a shape or strides; the file is damaged, copy it again")
        if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
            raise UserError(f"a tensor of {len(shape)} dimensions with {len(stride)} strides, which cannot be")
        declared = f"a tensor of shape {_shown(shape)}, strides {_shown(stride)} and offset {_shown((offset,))[1:-2]}"
        if not all(type(number) is int and 0 <= number < 1 << 48 for number in (offset, *shape, *stride)):
            raise UserError(f"{declared}, which cannot be")
        if 0 in shape:
            return np.zeros(shape, storage.dtype)
        reach = 1  # elements from the first to the last of the dimensions so far, from the finest stride up
        for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size > 1):
            if step < reach:
                raise UserError(f"{declared}, whose elements overlap; save a copy of it (tensor.contiguous())")
            reach += step * (size - 1)
        if offset + reach > storage.elements:
            raise UserError(f"{declared} in a storage of {storage.elements} elements; the file is damaged, copy it again")
        width = storage.dtype.itemsize
        strides = tuple(step * width for step in stride)
        return np.ndarray(shape, storage.dtype, buffer=storage.content, offset=offset * width, strides=strides)

    def call(self, function: Placeholder, arguments: tuple) -> Any:
        """Returns what a known function makes of its arguments, or a placeholder."""
        name = function.name
        if name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor") and len(arguments) >= 4:
            return self.tensor(*arguments[:4])
        if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state") and arguments:
            return arguments[0]
        if name in _DICTS:
            return _dict(arguments)
        if name == "_codecs.encode" and len(arguments) == 2 and arguments[1] == "latin1" and isinstance(arguments[0], str):
            self._charge(len(arguments[0]))
            return arguments[0].encode("latin1")
        if name.startswith("numpy.") and name.endswith(".multiarray.scalar") and len(arguments) == 2:
            return self._numpy((), *arguments).item()
        return Placeholder(name, arguments)

    def build(self, value: Any, state: Any) -> Any:
        """Returns a value with the state that the file gives it."""
        if isinstance(value, Placeholder):
            value.state = state
            if value.name.startswith("numpy.") and value.name.endswith("._reconstruct") and isinstance(state, tuple):
                return self._numpy_array(state)
        return value  # the attributes of a dict, such as _metadata of a state dict, are left out

    def _numpy_array(self, state: tuple) -> np.ndarray | list:
        """Returns the array of (version, shape, dtype, whether in Fortran order, content); a list for objects or texts."""
        if len(state) != 5 or not isinstance(state[1], tuple):
            raise ValueError("a numpy array without its state")
        _, shape, dtype, fortran, content = state
        if len(shape) > MAX_DIMENSIONS or not all(type(size) is int and 0 <= size < 1 << 48 for size in shape):
            raise ValueError("a numpy array of impossible shape")
        return self._numpy(shape, dtype, content, "F" if fortran else "C")

    def _numpy(self, shape: tuple, dtype: Any, content: Any, order: str = "C") -> Any:
        code = dtype.args[0] if isinstance(dtype, Placeholder) and dtype.name == "numpy.dtype" and dtype.args else None
        if not isinstance(code, str) or not _NUMPY_DTYPE.fullmatch(code):
            raise ValueError("a numpy array of a type that is not read")
        if "O" in code:
            if len(shape) != 1 or not isinstance(content, list) or len(content) != shape[0]:
                raise ValueError("a numpy array of objects that is no list")
            return content
        sign = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 and dtype.state[1] in ("<", ">") else "<"
        found = np.dtype(code.lstrip("<>|=")).newbyteorder(sign)
        elements = math.prod(shape)
        if not isinstance(content, bytes) or found.itemsize == 0 or elements * found.itemsize != len(content):
            raise ValueError("a numpy array whose shape does not fit its bytes")
        self._charge(len(content) + (64 * elements if found.kind in "SU" else 0))
        array = np.frombuffer(content, found).reshape(shape, order=order)
        return array.tolist() if found.kind in "SU" and shape else array.astype(found.newbyteorder("="))

    def _charge(self, size: int) -> None:
        """Counts bytes that are copied out of the pickle, which a file can ask for again and again."""
        self._copied += size
        if self._copied > MAX_COPIED:
            raise UserError("numpy arrays and texts of more bytes than any checkpoint of a recommender has")


def _dict(arguments: tuple) -> dict:
    if not arguments or isinstance(arguments[0], Placeholder):  # the factory of a defaultdict
        return {}
    raise UserError("a dict with entries in its call, which no torch file has; save the state dict alone")


def _shown(value: Any) -> str:
    """Numbers of the file for an error line, shortened; anything else by its type, as it may nest without end."""
    plain = type(value) is int or (isinstance(value, tuple) and all(type(part) is int for part in value[:100]))
    return str(value[:8] if isinstance(value, tuple) else value)[:60] if plain else type(value).__name__
