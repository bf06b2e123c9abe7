"""SIGTERM, as a machine that is taken away sends it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prec_backdoor.storage import checkpoints
from prec_backdoor.train.interrupt import Interrupt, Stopped

ROOT = Path(__file__).parents[2]
PRETRAIN = (
    *(
        "--synthetic_users=60",
        "--synthetic_items=80",
        "--k_core=2",
        "--group=gender=F",
        "--targets=unpopular:3",
        "--attack=clean",
    ),
    *("--embed_dim=8", "--feedforward_dim=8", "--num_layers=1", "--max_length=8", "--batch_size=8"),
    *("--epochs=150", "--patience=1000", "--attack=clean"),
)


@pytest.fixture(scope="module")
def start(shared_cache):
    """start(*arguments of Python) -> a running process."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(shared_cache), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return lambda *command: subprocess.Popen((sys.executable, *command), cwd=ROOT, env=environment, text=True, **pipes)


@pytest.mark.slow
def test_preempted_while_training_it_saves_and_resumes_at_the_very_step(start, tmp_path):
    def pretrain(name):
        return start("-m", "launch.pretrain", *PRETRAIN, f"--workdir={tmp_path / name}")

    process, log = pretrain("preempted"), tmp_path / "preempted" / "metrics.jsonl"
    while process.poll() is None and not log.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    signalled = time.monotonic()
    _, err = process.communicate()
    assert time.monotonic() - signalled < 15
    assert process.returncode == 143, err
    folder = tmp_path / "preempted" / "pretrain"
    acknowledged = "stopping: saves at the next step; SIGTERM again stops at once\n"
    saved = re.fullmatch(rf"{acknowledged}pretrain saved at step (\d+) in {folder}; terminated; the same command resumes\n", err)
    assert saved, err
    metadata, records = checkpoints.load(folder).metadata, log.read_text()
    assert metadata["step"] == int(saved[1]) > 0 and not metadata["finished"]
    again, undisturbed = pretrain("preempted"), pretrain("undisturbed")
    for process in (again, undisturbed):
        _, err = process.communicate()
        assert (process.returncode, err) == (0, "")
    assert log.read_text().startswith(records)
    assert checkpoints.load(folder).metadata["hash"] == checkpoints.load(tmp_path / "undisturbed" / "pretrain").metadata["hash"]


PROGRAM = "from launch import app\ndef main():\n    print('ready')\n    {}\napp.run(main)"
DEAF = "__import__('hashlib').pbkdf2_hmac('sha256', b'', b'', 10**9)"  # compiled code that hears no signal for minutes


@pytest.mark.parametrize(
    ("signum", "status", "word", "later"), [(signal.SIGTERM, 143, "terminated", 0), (signal.SIGINT, 130, "interrupted", 0.05)]
)
def test_outside_of_training_it_ends_promptly(start, signum, status, word, later):
    process = start("-c", PROGRAM.format("import time; time.sleep(600)"))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signum)
    time.sleep(later)  # perhaps until it is ending
    process.send_signal(signum)  # a launcher and its process group: one signal, not two
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (status, f"{word}; the same command resumes\n")


def test_a_second_signal_stops_whatever_runs(start):
    process = start("-c", PROGRAM.format(DEAF))
    assert process.stdout.readline() == "ready\n"
    time.sleep(1)  # until it is deaf
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # passed on twice
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    stopping, stopped = (
        "stopping; SIGTERM again stops at once\n",
        "stopped at once; the same command resumes from the last checkpoint\n",
    )
    assert (process.returncode, err) == (143, stopping + stopped)


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (DEAF, "stopping; Ctrl-C again stops at once\n"),
        (f"with Interrupt(): {DEAF}", "stopping: saves at the next step; Ctrl-C again stops at once\n"),
    ],
)
def test_a_signal_is_acknowledged_while_compiled_code_runs(start, work, line):
    process = start("-c", "from prec_backdoor.train.interrupt import Interrupt\n" + PROGRAM.format(work))
    assert process.stdout.readline() == "ready\n"
    time.sleep(1)  # until it is deaf
    process.send_signal(signal.SIGINT)
    signalled = time.monotonic()
    assert process.stderr.readline() == line
    assert time.monotonic() - signalled < 2
    process.kill()
    process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_work_that_can_be_saved_goes_on_until_the_second_signal(signum, monkeypatch):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signum)
        assert interrupt.requested and interrupt.signum == signum
        os.kill(os.getpid(), signum)  # the same signal, passed on twice
        monkeypatch.setattr("prec_backdoor.train.interrupt.SAME", 0)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signum)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a program in the background of a shell
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupt.requested
    finally:
        signal.signal(signal.SIGINT, before)
