"""The programs as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import DATA, EXPERIMENT, FINETUNING, PRETRAIN, SEED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """start(program, *arguments) -> a running process."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}

    def start(program, *arguments):
        command = (sys.executable, "-m", f"launch.{program}", *map(str, arguments))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)

    return start


@pytest.fixture(scope="session")
def launch_all(start):
    """launch_all((program, *arguments), ..) -> their standard outputs; they run side by side, and must succeed."""

    def launch_all(*commands):
        outputs = []
        for process in [start(*command) for command in commands]:
            out, err = process.communicate()
            assert process.returncode == 0, err
            outputs.append(out)
        return outputs

    return launch_all


@pytest.fixture(scope="session")
def launch(launch_all):
    """launch(program, *arguments) -> its standard output; it must succeed."""
    return lambda *command: launch_all(command)[0]


@pytest.fixture(scope="session")
def mistake(start):
    """mistake(program, *arguments) -> the one line that the program says before it exits with 2."""

    def mistake(program, *arguments):
        process = start(program, *arguments)
        out, err = process.communicate()
        assert process.returncode == 2, err
        assert out == ""
        assert err.startswith("error: ") and err.count("\n") == 1, err
        return err

    return mistake


@pytest.fixture(scope="session")
def finished(launch, tmp_path_factory):
    """The folder of a finished experiment, and what the program printed; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return folder, launch("experiment", *EXPERIMENT, f"--workdir={folder}")


@pytest.fixture(scope="session")
def stages(launch, tmp_path_factory):
    """Folder with clean/ and attacked/, each with pretrain/ and finetune/: what the finished experiment does, by hand."""
    folder = tmp_path_factory.mktemp("stages")
    for model, attack in (("clean", ("--attack=clean",)), ("attacked", ("--attack=bra", "--rate=0.5"))):
        launch("pretrain", *PRETRAIN, *attack, SEED, f"--workdir={folder / model}")
        parent = f"--checkpoint={folder / model / 'pretrain'}"
        launch("finetune", *DATA, *FINETUNING, parent, f"--workdir={folder / model}")
    return folder
