"""Files that attack whoever reads them: name -> (writes the file to a path, what the refusal must say)."""

import pickle
import struct
import warnings
import zipfile
from pathlib import Path

from .torch_files import EMPTY, call, mapping, number, numbers, pickled, storage, tensor, text, write

CANARY = "a-canary-that-nobody-may-touch"


def _bytes(content: bytes):
    return lambda path: path.write_bytes(content)


def _pickle(value: bytes, **archive):
    return lambda path: write(path, value, **archive)


def _changed(old: bytes, new: bytes, count: int = 1):
    """A sound file with some bytes of the archive replaced."""

    def make(path: Path):
        write(path, tensor())
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, count))

    return make


def _directory_entry(offset: int, value: bytes):
    """A sound file whose list of entries says something else of the tensor's."""

    def make(path: Path):
        write(path, tensor())
        content = bytearray(path.read_bytes())
        at = content.rindex(b"archive/data/0") - 46 + offset
        content[at : at + len(value)] = value
        path.write_bytes(content)

    return make


def _legacy(path: Path):
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2))


def _folder(path: Path):
    path.mkdir()


def _many_entries(path: Path):
    content = write(path, tensor()).read_bytes()
    end, size = content.rindex(b"PK\x05\x06"), 8 << 20
    path.write_bytes(content[:end] + bytes(size) + content[end : end + 12] + struct.pack("<IIH", size, end, 0))


def _zip_bomb(path: Path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled(tensor(elements=1 << 21, shape=(1 << 21,), stride=(1,))))
        with archive.open("archive/data/0", "w", force_zip64=True) as entry:
            for _ in range(8):
                entry.write(bytes(1 << 20))


def _cut(path: Path):
    content = write(path, tensor()).read_bytes()
    path.write_bytes(content[:-30])


def _without_pickle(path: Path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data/0", b"")


def _duplicate(path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(path, tensor(), extra=[("archive/data/0", b"1234" * 4)])


TOUCH = text(f"touch {CANARY}")
RUNS_CODE = "would run code when torch loads it"
DEEP = b")" + b"\x85" * 200_000  # a tuple in a tuple in a tuple, 200,000 times
BOMB = b"(" + text("lol") * 10 + b"l"  # ten of ten of ten ...
for level in range(40):
    BOMB += b"q" + bytes([level]) + b"0(" + (b"h" + bytes([level])) * 10 + b"l"
DEEP_DAG = b")q\x000" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) + b"0" for i in range(50))

HOSTILE = {
    "os.system": (_pickle(call("os.system", TOUCH)), RUNS_CODE),
    "posix.system": (_pickle(call("posix.system", TOUCH)), RUNS_CODE),
    "eval": (_pickle(call("builtins.eval", text(f"open({CANARY!r}, 'w')"))), RUNS_CODE),
    "exec of Python 2": (_pickle(call("__builtin__.exec", text(f"open({CANARY!r}, 'w')"))), RUNS_CODE),
    "subprocess": (_pickle(call("subprocess.Popen", b"(" + text("touch") + text(CANARY) + b"l")), RUNS_CODE),
    "runpy": (_pickle(call("runpy._run_code", TOUCH, b"}")), RUNS_CODE),
    "beside a sound tensor": (_pickle(mapping(weight=tensor(), x=call("os.system", TOUCH))), RUNS_CODE),
    "named in a string": (_pickle(text("os") + text("system") + b"\x93" + b"(" + TOUCH + b"tR"), RUNS_CODE),
    "import, then getattr": (
        _pickle(call("builtins.getattr", call("builtins.__import__", text("os")), text("system")) + b"(" + TOUCH + b"tR"),
        RUNS_CODE,
    ),
    "a call of what a call returned": (
        _pickle(call("operator.attrgetter", text("system")) + b"(" + TOUCH + b"tR"),
        "calls what is no named class",
    ),
    "INST": (_pickle(b"(" + TOUCH + b"ios\nsystem\n"), "opcode INST"),
    "OBJ": (_pickle(b"(cos\nsystem\n" + TOUCH + b"o"), RUNS_CODE),
    "EXT1": (_pickle(b"\x82\x01"), "opcode EXT1"),
    "a persistent id that is no storage": (_pickle(text("os.system") + b"Q"), "a persistent id that is no storage"),
    "a text persistent id": (_pickle(b"Pos.system\n"), "opcode PERSID"),
    "a storage of no class": (_pickle(tensor(kind="os.path.FloatStorage")), RUNS_CODE),
    "a storage of another class": (_pickle(tensor(kind="evil.FloatStorage")), "a tensor of evil.FloatStorage"),
    "a key that climbs": (_pickle(tensor(key="../data.pkl")), "no entry 'data/../data.pkl'"),
    "memo bomb": (_pickle(b"N" + b"".join(b"r" + struct.pack("<I", 1 << 31) for _ in range(9))), "the memo has gaps"),
    "memo of a billion laughs": (_pickle(BOMB), "shared so often"),
    "memo entries without end": (_pickle(b"]\x94" * 300_000), "more opcodes or containers"),
    "texts without end": (_pickle(b"\x8c\x02ab\x94" * 2_000_000), "more opcodes or containers"),
    "lists in lists without end": (_pickle(b"]" * 100_000 + b"a" * 99_999), "nested deeper"),
    "tuples in tuples without end": (_pickle(DEEP), "nested deeper"),
    "a graph of 2^50 tuples": (_pickle(DEEP_DAG + b"h\x32"), "shared so often"),
    "a list in itself": (_pickle(b"]q\x00h\x00a"), "holds itself"),
    "a dict in itself": (_pickle(b"}q\x00" + text("x") + b"h\x00s"), "holds itself"),
    "a tuple graph as a key": (_pickle(b"}" + DEEP_DAG + b"h\x32Ns"), "keys that no checkpoint has"),
    "a shape that is a graph": (
        _pickle(call("torch._utils._rebuild_tensor_v2", storage(), number(0), DEEP_DAG + b"h\x32", numbers([1]), b"\x89", EMPTY)),
        "which cannot be",
    ),
    "keys of one hash": (
        _pickle(b"}(" + b"".join(number(k * ((1 << 61) - 1)) + b"N" for k in range(1, 60_000)) + b"u"),
        "keys that no checkpoint has",
    ),
    "an unhashable key": (_pickle(b"}]Ns"), "keys that no checkpoint has"),
    "a number of a million digits": (_pickle(b"\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20)), "too many digits"),
    "a text of 4 GB": (_pickle(b"X\xff\xff\xff\xffab"), "damaged pickle"),
    "a text of 2^63 bytes": (_pickle(b"\x8d" + b"\xff" * 7 + b"\x7f"), "damaged pickle"),
    "a shape larger than its storage": (_pickle(tensor(shape=(2, 3), stride=(3, 1))), "in a storage of 4 elements"),
    "an offset behind the storage": (_pickle(tensor(offset=1)), "in a storage of 4 elements"),
    "an offset before the storage": (_pickle(tensor(offset=-1)), "which cannot be"),
    "a stride behind the storage": (_pickle(tensor(stride=(3, 1))), "in a storage of 4 elements"),
    "a negative stride": (_pickle(tensor(stride=(-2, 1), offset=2)), "which cannot be"),
    "a stride of 0": (_pickle(tensor(shape=(1 << 30, 2), stride=(0, 1))), "elements overlap"),
    "overlapping strides": (_pickle(tensor(shape=(2, 2), stride=(1, 1))), "elements overlap"),
    "a shape of 2^60": (_pickle(tensor(shape=(1 << 60,), stride=(1,))), "which cannot be"),
    "a shape whose product overflows": (
        _pickle(tensor(shape=(1 << 32, 1 << 32), stride=(1 << 32, 1))),
        "in a storage of 4 elements",
    ),
    "a shape of 100 dimensions": (_pickle(tensor(shape=[1] * 100, stride=[1] * 100)), "of 100 dimensions"),
    "a shape without strides": (_pickle(tensor(shape=(2, 2), stride=(2,))), "which cannot be"),
    "a shape of texts": (
        _pickle(call("torch._utils._rebuild_tensor_v2", storage(), number(0), b"(" + text("2") + b"t", numbers([1]))),
        "which cannot be",
    ),
    "4 GB declared": (_pickle(tensor(elements=1 << 30, shape=(1 << 30,), stride=(1,))), "its entry has 16 bytes"),
    "another dtype": (_pickle(tensor(kind="torch.DoubleStorage")), "its entry has 16 bytes"),
    "a dtype that no one has": (_pickle(tensor(kind="torch.QUInt8Storage")), "which is not read"),
    "one storage of two dtypes": (
        _pickle(mapping(a=tensor(), b=tensor(kind="torch.IntStorage"))),
        "declared with 4 elements of int32",
    ),
    "a storage that is missing": (_pickle(tensor(key="7")), "no entry 'data/7'"),
    "a storage declared with -1": (_pickle(tensor(elements=-1)), "its entry has 16 bytes"),
    "a parameter of nothing": (
        _pickle(call("torch._utils._rebuild_tensor_v2", b"N", number(0), b")", b")")),
        "without a storage",
    ),
    "an array with a lying shape": (
        _pickle(
            call("numpy.core.multiarray._reconstruct", b"N", numbers([0]), b"N")
            + b"("
            + number(1)
            + numbers([1 << 40])
            + call("numpy.dtype", text("f8"), b"\x89", b"\x88")
            + b"\x89C\x08"
            + b"\0" * 8
            + b"tb"
        ),
        "does not fit its bytes",
    ),
    "long texts encoded again and again": (
        _pickle(text("a" * (1 << 20)) + b"q\x00" + call("_codecs.encode", b"h\x00", text("latin1")) * 3_000),
        "more bytes than any checkpoint",
    ),
    "long arguments again and again": (
        _pickle(b"(" + b"N" * 200_000 + b"tq\x00" + b"ccollections\nOrderedDict\nh\x00}\x92" * 20_000),
        "with entries in its call",
    ),
    "a long shape again and again": (
        _pickle(
            b"("
            + b"J\0\0\0\0" * 200_000
            + b"tq\x00"
            + call("torch._utils._rebuild_tensor_v2", storage(), number(0), b"h\x00", b"h\x00")
        ),
        "200000 dimensions",
    ),
    "a bare storage": (_pickle(storage()), "a bare storage"),
    "no value": (_pickle(b""), "damaged pickle"),
    "two values": (_pickle(b"NN"), "damaged pickle"),
    "values of nothing": (_pickle(b"t"), "damaged pickle"),
    "a mark as a value": (_pickle(b"("), "damaged pickle"),
    "no end": (_cut, "damaged zip"),
    "a path that climbs": (_pickle(tensor(), extra=[("archive/../../x", b"")]), "a path that no torch file has"),
    "an absolute path": (_pickle(tensor(), extra=[("/etc/x", b"")]), "a path that no torch file has"),
    "a Windows path": (_changed(b"archive/data/0", b"archive\\data/0", 2), "a path that no torch file has"),
    "two top folders": (_pickle(tensor(), extra=[("other/x", b"")]), "2 top folders"),
    "no top folder": (_pickle(tensor(), extra=[("data.pkl", b"")]), "a path that no torch file has"),
    "duplicate names": (_duplicate, "two entries"),
    "zip bomb": (_zip_bomb, "compressed or encrypted"),
    "a compressed archive": (_pickle(tensor(), compression=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "an encrypted entry": (_directory_entry(8, b"\x01\x00"), "compressed or encrypted"),
    "an entry of 4 GB": (_directory_entry(20, struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)), "more than there are"),
    "an entry of another size": (_directory_entry(20, struct.pack("<II", 12, 12)), "its checksum"),
    "an entry over another": (_directory_entry(42, struct.pack("<I", 0)), "more than there are"),
    "an entry behind the file": (_directory_entry(42, struct.pack("<I", 1 << 30)), "more than there are"),
    "a wrong checksum": (_directory_entry(16, b"abcd"), "does not have its checksum"),
    "a list of entries of 8 MB": (_many_entries, "no torch file has that many entries"),
    "a header that says otherwise": (_changed(b"archive/data/0", b"archive/data/1"), "is not what the list of entries declares"),
    "no pickle": (_without_pickle, "no entry 'data.pkl'"),
    "TorchScript": (_pickle(tensor(), extra=[("archive/constants.pkl", b"")]), "TorchScript"),
    "an unknown byte order": (_pickle(tensor(), extra=[("archive/byteorder", b"middle")]), "byte order"),
    "a legacy torch file": (_legacy, "torch.save(torch.load("),
    "a plain pickle": (_bytes(pickle.dumps({"a": 1})), "a plain pickle"),
    "a text": (_bytes(b"hello\n"), "does not begin as a zip archive"),
    "nothing": (_bytes(b""), "does not begin as a zip archive"),
    "only a magic number": (_bytes(b"PK\x03\x04"), "damaged zip"),
    "a folder": (_folder, "this is no file"),
}
