"""Checkpoints that are damaged, hostile, or cut off while they are written."""

import ast
import contextlib
import dataclasses
import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorstore as ts
from toys import assert_same_trees, lively_params, tiny_model

from prec_backdoor.data.vocabulary import Vocabulary
from prec_backdoor.errors import UserError
from prec_backdoor.storage import checkpoints

ROOT = Path(__file__).parents[2]
MODEL = tiny_model(num_items=9, num_layers=1, max_length=5)
VOCABULARY = Vocabulary(tuple(f"i{item}" for item in range(1, 10)), category=(1,) * 9, categories=("unknown", "c1"))
METADATA = {"stage": "pretrain", "model": dataclasses.asdict(MODEL), "dataset": {"name": "toy"}, "finished": False}


@functools.cache
def content(step):
    """Parameters and training state of a step, unlike any other's."""
    params = jax.tree.map(lambda x: np.asarray(x) + np.float32(step), lively_params(MODEL))
    return params, {"moments": jax.tree.map(np.square, params), "count": np.int32(step)}


def save(folder, step, **metadata):
    metadata = METADATA | {"progress": {"epoch": step}} | metadata
    checkpoints.save(folder / "checkpoints", step, *content(step), metadata, VOCABULARY)


@pytest.fixture(scope="module", autouse=True)
def sources():
    """Parsed before any test overruns the stack, after which CPython 3.11 may fail to (a SystemError)."""
    paths = (path for folder in ("prec_backdoor", "launch") for path in ROOT.glob(f"{folder}/**/*.py"))
    return {path: ast.parse(path.read_text()) for path in paths}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for step in (1, 2):
        save(folder, step)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "stage"))


def resume(folder):
    return checkpoints.resume(folder / "checkpoints", *content(0))


def step_of(found):
    """Which step `resume` or `load` found, after comparing all of it with what was saved."""
    if isinstance(found, checkpoints.Checkpoint):
        assert found.vocabulary == VOCABULARY
        found = found.params, None, found.metadata
    params, training, metadata = found
    step = metadata["step"]
    assert_same_trees(params, content(step)[0])
    if training is not None:
        assert_same_trees(training, content(step)[1])
    expected = METADATA | {"progress": {"epoch": step}, "step": step}
    assert {name: metadata[name] for name in expected} == json.loads(json.dumps(expected))
    return step


def flipped(data, rng):
    changed = bytearray(data)
    changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return bytes(changed)


DAMAGES = [lambda data, rng: data[: len(data) // 2], lambda data, rng: b"", lambda data, rng: None, flipped, flipped]


def test_every_file_damaged_in_turn(folder, capsys):
    """Either what was saved last, whole, or a line that names it, and the whole one before it; nothing else."""
    rng, outcomes = np.random.default_rng(0), []
    files = [path for path in sorted((folder / "checkpoints" / "2").rglob("*")) if path.is_file()]
    assert len(files) > 15
    for path in files:
        data = path.read_bytes()
        for damage in DAMAGES:
            changed = damage(data, rng)
            path.unlink() if changed is None else path.write_bytes(changed)
            for read in (checkpoints.load, resume):
                step, said = step_of(read(folder)), capsys.readouterr()
                if step == 1:
                    assert f"{folder / 'checkpoints' / '2'}: damaged checkpoint" in said.err
                    assert said.err.endswith("the checkpoint before it, 1, is used instead\n") and said.err.count("\n") == 1
                else:
                    assert said.err == ""
                assert said.out == ""
                outcomes.append((path.relative_to(folder / "checkpoints" / "2").parts[0], read, step))
            path.write_bytes(data)
    assert step_of(resume(folder)) == 2
    found = set(outcomes)
    assert ("training", checkpoints.load, 1) not in found  # no use for it
    for part, read in (("params", checkpoints.load), ("params", resume), ("training", resume), ("metadata", checkpoints.load)):
        assert (part, read, 1) in found


def test_training_goes_on_behind_a_damaged_checkpoint(folder, capfd):
    shutil.rmtree(folder / "checkpoints" / "2" / "params")
    (folder / "checkpoints" / "3").mkdir()  # half removed
    assert step_of(resume(folder)) == 1
    assert capfd.readouterr().err.count("is used instead\n") == 2
    save(folder, 2)
    assert step_of(resume(folder)) == step_of(checkpoints.load(folder)) == 2
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"1", "2"}
    assert capfd.readouterr().err == ""


def test_none_is_sound(folder):
    for step in "12":
        (folder / "checkpoints" / step / "metadata" / "metadata").write_text("{")
    message = r"checkpoints/2: damaged checkpoint, no readable metadata; nor is one before it sound \(1\); "
    with pytest.raises(UserError, match=message + "use another copy"):
        checkpoints.load(folder)
    with pytest.raises(UserError, match=message + "remove .*checkpoints to start the stage again"):
        resume(folder)


@pytest.fixture
def alone(folder):
    """Only one checkpoint, so that there is nothing to go back to."""
    shutil.rmtree(folder / "checkpoints" / "1")
    return folder / "checkpoints" / "2"


def refused(where):
    with pytest.raises(UserError) as error:
        checkpoints.load(where.parent)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    return str(error.value)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 200_000, "1" * 5_000, "nul", "[]", '{"schema": 2}', "\0", "\ud800", " " * (1 << 21)]
)
def test_metadata_of_any_kind(alone, text):
    (alone / "metadata" / "metadata").write_bytes(text.encode(errors="surrogatepass"))
    assert "metadata" in refused(alone)


@pytest.mark.parametrize("depth", [100, *range(900, 1000, 7)])
def test_metadata_nested_as_deep_as_the_parser_goes(alone, depth):
    path = alone / "metadata" / "metadata"
    path.write_text(path.read_text().rstrip().removesuffix("}") + f', "more": {"[" * depth}{"]" * depth}}}')
    assert "metadata" in refused(alone)


@pytest.mark.parametrize("place", ["params/d/stolen", "metadata/metadata", "params", "."])
def test_links_are_not_followed(alone, tmp_path, place):
    target, link = tmp_path / "elsewhere", alone / place
    if link.exists():
        link.rename(target)
    link.symlink_to(target)
    assert f"{(Path('2') / place)} is a link or no file at all" in refused(alone)


def test_pipes_are_not_opened(alone):
    os.mkfifo(alone / "params" / "d" / "pipe")
    assert "2/params/d/pipe is a link or no file at all" in refused(alone)


def test_parameters_that_are_no_numbers(tmp_path):
    params = jax.tree.map(np.copy, content(1)[0])
    params["items"][3, 3] = np.nan
    checkpoints.save(tmp_path / "checkpoints", 1, params, None, METADATA | {"finished": True})
    assert "some parameters are not finite" in refused(tmp_path / "checkpoints" / "1")


def test_arrays_in_pieces_of_absurd_size(alone):
    database = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{alone / 'params'}/"}, "path": "items/"}
    metadata = {"shape": [10, 8], "chunks": [1 << 40, 8], "dtype": "<f4", "compressor": None, "fill_value": 0.0, "order": "C"}
    spec = {"driver": "zarr", "kvstore": database, "metadata": metadata | {"filters": None}}
    ts.open(spec, create=True, delete_existing=True).result()
    assert "array items is stored in pieces larger than itself" in refused(alone)


@contextlib.contextmanager
def limited_files(folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def full_disk(folder):
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while file.write(bytes(1 << 12)):
            pass
    yield
    ballast.unlink()


@pytest.fixture
def small_disk(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs more rights")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def check_failing_saves(folder, failing, reason):
    save(folder, 1)
    with (
        failing(folder),
        pytest.raises(UserError, match=rf"checkpoints/2: the checkpoint cannot be written \(.*{reason}.*; make room"),
    ):
        save(folder, 2)
    assert step_of(resume(folder)) == 1
    for patience in range(10):
        try:
            save(folder, 2)
            break
        except UserError:  # threads of Orbax may still be writing to the folder that has failed
            assert patience < 9
            time.sleep(0.5)
    assert step_of(resume(folder)) == 2
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"1", "2"}


def test_a_full_disk(small_disk):
    check_failing_saves(small_disk, full_disk, "No space left on device")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax's threads, which write on for a while
def test_files_that_may_not_grow(tmp_path):
    check_failing_saves(tmp_path, limited_files, "File too large")


SAVING = """
import sys, dataclasses, numpy as np
from prec_backdoor.storage import checkpoints
for step in range(1, 1000):
    params = {"items": np.full((500_000, 8), step, np.float32)}
    metadata = {"stage": "s", "finished": False, "model": {}, "dataset": {}}
    checkpoints.save(__import__("pathlib").Path(sys.argv[1]), step, params, {"step": np.int32(step)}, metadata)
"""


def test_killed_while_saving(tmp_path):
    saver = subprocess.Popen([sys.executable, "-c", SAVING, str(tmp_path)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and saver.poll() is None:
        unfinished = list(tmp_path.glob("*tmp*"))
        if unfinished and (tmp_path / "2").exists():
            saver.send_signal(signal.SIGSTOP)
            if unfinished[0].exists():
                break
            saver.send_signal(signal.SIGCONT)
    assert unfinished and unfinished[0].exists()
    saver.kill()
    saver.wait()
    last = max(int(path.name) for path in tmp_path.iterdir() if path.name.isdecimal())
    blank = {"items": np.empty((500_000, 8), np.float32)}, {"step": np.int32(0)}
    params, training, metadata = checkpoints.resume(tmp_path, *blank)
    assert (params["items"] == last).all() and training["step"] == metadata["step"] == last
    checkpoints.save(tmp_path, last + 1, params, training, {"stage": "s", "finished": False, "model": {}, "dataset": {}})
    assert {path.name for path in tmp_path.iterdir()} == {str(last), str(last + 1)}


def test_nothing_is_unpickled_or_evaluated(sources):
    """In none of our sources; what reads arrays says so."""
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
    assert len(sources) > 50
    for path, tree in sources.items():
        for node in ast.walk(tree):
            where = f"{path}, line {getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.partition(".")[0] for alias in node.names} | {
                    (getattr(node, "module", "") or "").partition(".")[0]
                }
                assert not names & forbidden, where
            if isinstance(node, ast.Call):
                called, keywords = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert called not in ("eval", "exec", "compile", "torch.load", "pl.read_pickle"), where
                assert called != "np.load" or keywords.get("allow_pickle") == "False", where
