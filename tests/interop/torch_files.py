"""Writes torch files by hand, without torch: pickles opcode by opcode, in archives that may lie."""

import struct
import zipfile
from pathlib import Path

import numpy as np

EMPTY = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def call(name: str, *arguments: bytes) -> bytes:
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def storage(key="0", kind="torch.FloatStorage", elements=4) -> bytes:
    module, _, name = kind.rpartition(".")
    return b"(" + text("storage") + f"c{module}\n{name}\n".encode() + text(key) + text("cpu") + number(elements) + b"tQ"


def tensor(shape=(2, 2), stride=(2, 1), offset=0, **of_storage) -> bytes:
    parts = storage(**of_storage), number(offset), numbers(shape), numbers(stride), b"\x89", EMPTY
    return call("torch._utils._rebuild_tensor_v2", *parts)


def mapping(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u"


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


FOUR = np.array([1, 2, 3, 4], "<f4").tobytes()


def write(path: Path, value: bytes, data=None, extra=(), compression=zipfile.ZIP_STORED) -> Path:
    """Writes an archive with `value` as its pickle, storages by key, and `extra` (name, content) in the given order."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        for key, content in ({"0": FOUR} if data is None else data).items():
            archive.writestr(f"archive/data/{key}", content)
        for name, content in extra:
            archive.writestr(name, content)
    return path
