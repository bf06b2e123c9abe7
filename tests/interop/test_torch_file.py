"""Torch files: what the reader returns of sound ones; hostile ones are refused in one line, at once, with nothing run."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from prec_backdoor.errors import UserError
from prec_backdoor.interop import Placeholder, read_torch

from .hostile_files import CANARY, HOSTILE
from .torch_files import EMPTY, FOUR, call, mapping, number, numbers, pickled, tensor, text, write

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Of each hostile file, what a process that watches itself found; name -> dict."""
    folder = tmp_path_factory.mktemp("hostile")
    sound = write(folder / "sound.pth", mapping(weight=tensor(), array=ARRAY))
    paths = {}
    for number_, (name, (make, _)) in enumerate(HOSTILE.items()):
        paths[name] = folder / f"{number_}.pth"
        make(paths[name])
    before = sorted(folder.iterdir())
    command = (sys.executable, "-m", "interop.read_hostile", str(sound), *map(str, paths.values()))
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(folder.iterdir()) == before and not (folder / CANARY).exists()
    found = {line["path"]: line for line in map(json.loads, done.stdout.splitlines())}
    return {name: found[str(path)] for name, path in paths.items()}


ARRAY = (
    call("numpy.core.multiarray._reconstruct", b"cnumpy\nndarray\n", numbers([0]), b"C\x01b")
    + b"("
    + number(1)
    + numbers([2])
    + call("numpy.dtype", text("f8"), b"\x89", b"\x88")
    + b"(J\x03\0\0\0"
    + text("<")
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffJ\0\0\0\0tb"
    + b"\x89C\x10"
    + np.array([0.5, -2.0]).tobytes()
    + b"tb"
)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(verdicts, name):
    found, said = verdicts[name], HOSTILE[name][1]
    assert found["other"] is None
    assert found["error"], "it was read"
    message = found["error"]
    assert said in message and message.startswith(f"{found['path']}: ")
    assert "\n" not in message and message.isprintable() and len(message) < len(found["path"]) + 400
    assert not found["ran"]
    assert found["seconds"] < 5
    assert found["peak"] < 200 * 1024  # kB, the highest of all files until this one


def test_the_watch_sees_what_runs(tmp_path):
    """The canary's own test: a reader that unpickles is found out."""
    path = tmp_path / "a"
    path.write_bytes(pickled(call("os.system", text(f"touch {CANARY}"))))
    program = (
        "import pickle, sys; from interop import read_hostile; read_hostile.read_torch = "
        "lambda path: pickle.load(open(path, 'rb')) if path.endswith('a') else None; read_hostile.main()"
    )
    command = (sys.executable, "-c", program, "sound", str(path))
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert any("os.system" in line for line in json.loads(done.stdout)["ran"]) and (tmp_path / CANARY).exists()


def test_no_torch_and_no_jax():
    program = "import sys, prec_backdoor.interop; print('jax' in sys.modules, 'torch' in sys.modules, 'pickle' in sys.modules)"
    done = subprocess.run((sys.executable, "-c", program), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["False", "False"]


def read(tmp_path, value, **archive):
    return read_torch(write(tmp_path / "file.pth", value, **archive))


def test_values(tmp_path):
    found = read(
        tmp_path,
        b"}("
        + text("é") + b"\x88"
        + text("none") + b"N"
        + number(5) + number(-(1 << 62))
        + text("tuple") + numbers([1, 2])
        + text("list") + b"](" + text("a") + b"C\x02\x00\xffe"
        + text("dict") + call("collections.OrderedDict") + b"(" + text("x") + b"G\x3f\xf8\0\0\0\0\0\0u"
        + text("array") + ARRAY
        + text("scalar") + call("numpy.core.multiarray.scalar", call("numpy.dtype", text("<i8")), b"C\x08\x07" + b"\0" * 7)
        + text("latin") + call("_codecs.encode", text("\u00ff"), text("latin1"))
        + b"u",
    )  # fmt: skip
    assert found.pop("array").tolist() == [0.5, -2.0]
    assert found == {
        "é": True,
        "none": None,
        5: -(1 << 62),
        "tuple": (1, 2),
        "list": ["a", b"\x00\xff"],
        "dict": {"x": 1.5},
        "scalar": 7,
        "latin": b"\xff",
    }


def test_placeholders_hold_what_the_file_says(tmp_path):
    found = read(tmp_path, b"crecbole.config.configurator\nConfig\n)\x81}" + text("final_config_dict") + b"}sb")
    assert isinstance(found, Placeholder) and found.name == "recbole.config.configurator.Config"
    assert found.state == {"final_config_dict": {}} and repr(found) == "<recbole.config.configurator.Config, not loaded>"
    found = read(tmp_path, call("builtins.set", b"]" + number(3) + b"a"))
    assert found.name == "builtins.set" and found.args == ([3],)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("FloatStorage", "f4"),
        ("DoubleStorage", "f8"),
        ("HalfStorage", "f2"),
        ("BFloat16Storage", ml_dtypes.bfloat16),
        ("LongStorage", "i8"),
        ("IntStorage", "i4"),
        ("ShortStorage", "i2"),
        ("CharStorage", "i1"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
    ],
)
@pytest.mark.parametrize("order", ["little", "big"])
def test_dtypes_and_byte_order(tmp_path, kind, dtype, order):
    expected = np.array([[1, 0], [3, 1]]).astype(dtype)
    swap = order == "big" and expected.dtype.itemsize > 1
    data = {"0": expected.view(f"u{expected.dtype.itemsize}").byteswap().tobytes() if swap else expected.tobytes()}
    found = read(tmp_path, tensor(kind=f"torch.{kind}"), data=data, extra=[("archive/byteorder", order.encode())])
    assert found.dtype == expected.dtype and (found == expected).all()


def test_a_file_of_torch():
    """make_fixtures.py wrote it, with what numpy makes of its tensors beside it."""
    path = Path(__file__).with_name("fixtures") / "torch-values.pth"
    found, expected = read_torch(path), np.load(path.with_suffix(".npz"))
    assert set(found["tensors"]) == set(expected)
    for name, array in found["tensors"].items():
        assert array.dtype == expected[name].dtype and array.shape == expected[name].shape and (array == expected[name]).all(), (
            name
        )
    assert found["bfloat16"].dtype == ml_dtypes.bfloat16 and found["bfloat16"].astype(int).tolist() == expected["int64"].tolist()
    assert found["size"].name == "torch.Size" and found["size"].args == ((2, 3, 4),)


def test_views_share_a_storage(tmp_path):
    value = mapping(
        whole=tensor(),
        transposed=tensor(stride=(1, 2)),
        last=tensor(shape=(2,), stride=(1,), offset=2),
        column=tensor(shape=(2,), stride=(2,), offset=1),
        scalar=tensor(shape=(), stride=(), offset=3),
        empty=tensor(shape=(0, 2), stride=(2, 1), offset=4),
        one=tensor(shape=(1, 2), stride=(0, 1)),
        parameter=call("torch._utils._rebuild_parameter", tensor(), b"\x88", EMPTY),
    )
    found = read(tmp_path, value)
    assert found["whole"].tolist() == found["parameter"].tolist() == [[1, 2], [3, 4]]
    assert found["transposed"].tolist() == [[1, 3], [2, 4]]
    assert found["last"].tolist() == [3, 4] and found["column"].tolist() == [2, 4] and found["scalar"].item() == 4
    assert found["empty"].shape == (0, 2) and found["one"].tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        found["whole"][0] = 0


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "none.pth", "~no-such-user/x.pth", "a\0b"):
        with pytest.raises(UserError, match="the file cannot be read"):
            read_torch(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="this is no file"):
        read_torch(tmp_path / "pipe")


def test_a_large_file_is_mapped(tmp_path):
    """110,000 x 64 with Adam's two moments: 84 MB in a second, no more than twice its size."""
    rows = 110_001
    table = dict(kind="torch.FloatStorage", elements=rows * 64, shape=(rows, 64), stride=(64, 1))
    data = np.random.default_rng(0).standard_normal(rows * 64).astype("<f4").tobytes()
    path = tmp_path / "large.pth"
    value = mapping(**{name: tensor(key=name, **table) for name in "abc"})
    write(path, value, data=dict.fromkeys("abc", data))
    program = (
        "import sys, time; from interop.read_hostile import peak_memory, read_torch; "
        "started, before = time.time(), peak_memory(); "
        "table = read_torch(sys.argv[1])['a'].copy(); print(time.time() - started, peak_memory() - before, table.shape)"
    )
    command = (sys.executable, "-c", program, str(path))
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    seconds, kilobytes, shape = done.stdout.split(maxsplit=2)
    assert float(seconds) < 10 and 0 < int(kilobytes) * 1024 < 2 * path.stat().st_size and shape.strip() == "(110001, 64)"


def test_a_file_that_another_zip_program_wrote(tmp_path):
    """Entries in another order, and none of those that torch adds."""
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é/data/0", FOUR)
        archive.writestr("é/data.pkl", pickled(tensor()))
    assert read_torch(path).tolist() == [[1, 2], [3, 4]]
