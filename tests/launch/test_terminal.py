"""What a user sees on a terminal: the progress bar, the acknowledgement of Ctrl-C, the profile."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest
from commands import EXPERIMENT, PRETRAIN
from forks import ROOT


class Terminal:
    """A program on a pseudo-terminal of 160 columns; `seen` is what it has written so far."""

    def __init__(self, environment, *command):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        self.process = subprocess.Popen((sys.executable, "-m", *command), cwd=ROOT, env=environment, **streams)
        os.close(slave)
        self.seen, self._master = "", master
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        try:
            while data := os.read(self._master, 1 << 16):
                self.seen += data.decode(errors="replace")
        except OSError:  # the other end is closed
            pass

    def wait_for(self, text, seconds=120):
        """Waits until `text` is written; returns the seconds that took."""
        started = time.monotonic()
        while text not in self.seen:
            assert time.monotonic() - started < seconds and self.process.poll() is None, self.seen[-2000:]
            time.sleep(0.01)
        return time.monotonic() - started

    def end(self, seconds=120):
        """Waits for the end; returns the exit status."""
        status = self.process.wait(seconds)
        self._reader.join(10)
        return status


@pytest.fixture
def terminal(environment):
    """terminal(program, *arguments) -> it, running; killed after the test."""
    running = []

    def terminal(program, *arguments, **changes):
        running.append(Terminal({**environment, **changes}, f"launch.{program}", *map(str, arguments)))
        return running[-1]

    yield terminal
    for each in running:
        each.process.kill()
        each.process.wait()


def test_the_bar_names_model_stage_and_place_and_promises_no_time_early(terminal, tmp_path):
    shown = terminal("experiment", *EXPERIMENT, "--epochs=3", "--usages=zero_shot,fine_tune", f"--workdir={tmp_path}")
    assert shown.end() == 0, shown.seen
    lines = re.split(r"[\r\n]+", shown.seen)
    stages = ("clean pretrain, stage 1 of 4", "bra-group-0.5 pretrain, stage 2 of 4", "clean finetune, stage 3 of 4")
    for stage in (*stages, "bra-group-0.5 finetune, stage 4 of 4"):
        places = [index for index, line in enumerate(lines) if line.startswith(f"seed-1/{stage}")]
        assert lines[places[0]].rstrip() == f"seed-1/{stage}: compiling"
        assert any("%|" in lines[index] for index in places)
    for line in lines:
        if "left" in line:  # only after four seconds of training
            assert re.search(r"\[00:0[4-9]|\[00:[1-9]|\[0[1-9]:", line)
        assert "?" not in line and "<" not in line
    last = [line for line in lines if re.search(r"(pretrain|finetune) +best epoch +\d+  ndcg@10 0\.\d{4} +\d+\.\d s$", line)]
    assert len(last) == 4


def test_ctrl_c_while_compiling_is_acknowledged_at_once(terminal, tmp_path):
    deep = [flag for flag in PRETRAIN if not flag.startswith("--num_layers")] + ["--num_layers=6", "--attack=clean"]
    shown = terminal("pretrain", *deep, f"--workdir={tmp_path / 'run'}", XDG_CACHE_HOME=str(tmp_path / "cache"))
    shown.wait_for("pretrain: compiling")
    time.sleep(0.5)
    shown.process.send_signal(signal.SIGINT)
    assert shown.wait_for("stopping: saves at the next step; Ctrl-C again stops at once", 5) < 2
    assert "%|" not in shown.seen  # it still compiles
    time.sleep(0.6)
    shown.process.send_signal(signal.SIGINT)
    assert shown.end(10) == 130
    assert "stopped at once; the same command resumes from the last checkpoint" in shown.seen and "Traceback" not in shown.seen


def test_a_profile_is_of_a_few_steps_however_long_the_run(launch, tmp_path):
    out = launch(
        "experiment",
        *EXPERIMENT,
        "--epochs=40",
        "--usages=zero_shot",
        f"--workdir={tmp_path / 'run'}",
        f"--profile={tmp_path / 'profile'}",
    )
    files = [path for path in (tmp_path / "profile").rglob("*") if path.is_file()]
    assert 10_000 < sum(path.stat().st_size for path in files) < 10_000_000
    (line,) = (line for line in out.splitlines() if line.startswith("profile  "))
    assert f"profile  {tmp_path / 'profile'}: a few training steps" in line
    (trace,) = (path for path in files if path.name.endswith(".trace.json.gz"))
    assert f"open {trace} in https://ui.perfetto.dev" in line
