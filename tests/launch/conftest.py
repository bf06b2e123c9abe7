"""The programs as a user runs them."""

import fcntl
import os
import shutil
import subprocess
import sys

import pytest
from commands import DATA, EXPERIMENT, FINETUNING, PRETRAIN, SEED
from forks import ROOT, run_program


@pytest.fixture(scope="session")
def environment(shared_cache):
    return {**os.environ, "XDG_CACHE_HOME": str(shared_cache)}


@pytest.fixture(scope="session")
def start(environment):
    """start(program, *arguments) -> a running process."""

    def start(program, *arguments):
        command = (sys.executable, "-m", f"launch.{program}", *map(str, arguments))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)

    return start


@pytest.fixture(scope="session")
def launch(environment):
    """launch(program, *arguments) -> its standard output; it must succeed."""

    def launch(*command):
        status, out, err = run_program(command, environment)
        assert status == 0, err
        return out

    return launch


@pytest.fixture(scope="session")
def mistake(environment):
    """mistake(program, *arguments) -> the one line that the program says before it exits with 2."""

    def mistake(*command):
        status, out, err = run_program(command, environment)
        assert status == 2, err
        # A line on the dataset, or on the suspects, may come before; nothing that sounds like success.
        assert out.count("\n") <= 2 and not any(word in out for word in ("results  ", "report  ", "checkpoint  ", "epoch")), out
        assert err.startswith("error: ") and err.count("\n") == 1, err
        return err

    return mistake


@pytest.fixture(scope="session")
def once(shared_folder, tmp_path_factory):
    """once(make, name) -> this worker's copy of the folder that make(folder) fills, and the text that it returns, with the copy's
    path in it; of all workers one makes it.
    """

    def once(make, name):
        folder, own = shared_folder / name, tmp_path_factory.mktemp("copies") / name
        result = folder.with_suffix(".txt")
        with open(folder.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                result.write_text(make(folder))
        shutil.copytree(folder, own)
        return own, result.read_text().replace(str(folder), str(own))

    return once


@pytest.fixture(scope="session")
def finished(launch, once):
    """The folder of a finished experiment, and what the program printed; not to be changed."""
    return once(lambda folder: launch("experiment", *EXPERIMENT, f"--workdir={folder}"), "finished")


@pytest.fixture(scope="session")
def stages(launch, once):
    """Folder with clean/ and attacked/, each with pretrain/ and finetune/: what the finished experiment does, by hand."""

    def make(folder):
        for model, attack in (("clean", ("--attack=clean",)), ("attacked", ("--attack=bra", "--rate=0.5"))):
            launch("pretrain", *PRETRAIN, *attack, SEED, f"--workdir={folder / model}")
            parent = f"--checkpoint={folder / model / 'pretrain'}"
            launch("finetune", *DATA, *FINETUNING, parent, f"--workdir={folder / model}")
        return ""

    return once(make, "stages")[0]
