"""The parent's side: starts the systems' processes, lets them take turns, and gathers what they tell."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

from prec_backdoor.benchmark.job import Job
from prec_backdoor.benchmark.systems import MACHINE


@dataclasses.dataclass
class Measured:
    """What a system told: when it was ready, and after each of its turns; or how it failed."""

    job: Job
    ready: dict = dataclasses.field(default_factory=dict)
    turns: list[dict] = dataclasses.field(default_factory=list)
    failure: str | None = None

    def records(self) -> list[dict]:
        """Everything that it did, in order."""
        return [record for part in (self.ready, *self.turns) for record in part.get("records", ())]


class _Child:
    """A worker process, and what it tells."""

    def __init__(self, job: Job):
        self.measured = Measured(job)
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several processes share an accelerator
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # compiling is measured
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed in `end`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prec_backdoor.benchmark.worker", json.dumps(dataclasses.asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is the parent's, which ends its children
        )
        self.measured.ready = self._reply()

    def turn(self, seconds: float) -> None:
        """Lets it work for at least so long, unless it has failed."""
        if not self.measured.failure:
            with contextlib.suppress(BrokenPipeError):  # `_reply` says why
                print(seconds, file=self._process.stdin, flush=True)
            self.measured.turns.append(self._reply())

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _reply(self) -> dict:
        """The next line of JSON; nothing, and the last line of its errors as the failure, when it has ended instead."""
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        said = [line for line in lines if "Error: " in line] or lines or [f"exit status {status}"]  # JAX goes on after its errors
        self.measured.failure = said[-1] if status > 0 else f"killed by signal {-status}, perhaps for want of memory"
        return {}


def take_turns(
    groups: Sequence[Sequence[Job]], rounds: int, seconds: float, progress: Callable[[str], None]
) -> tuple[list[list[Measured]], Measured]:
    """Measures groups of jobs, one group after another, and the machine itself between their turns.

    The jobs of a group are started one by one, each in a process of its own, and in every round each works for `seconds`, so that
    all meet the same machine. A system that fails, in starting or later, is left out of the rest.

    Args:
      progress: called with the job's name before its process is started and before each turn: (1 + rounds) times a job.
    """
    found = []
    with contextlib.ExitStack() as machine_ends:
        machine = _start(Job("machine", MACHINE), machine_ends)
        for jobs in groups:
            with contextlib.ExitStack() as ends:
                children = []
                for job in jobs:
                    progress(_name(job))
                    children.append(_start(job, ends))
                for _ in range(rounds):
                    machine.turn(0)
                    for child in children:
                        progress(_name(child.measured.job))
                        child.turn(seconds)
                found.append([child.measured for child in children])
    return found, machine.measured


def _start(job: Job, ends: contextlib.ExitStack) -> _Child:
    child = _Child(job)
    ends.callback(child.end)
    return child


def _name(job: Job) -> str:
    return f"{job.task} {job.system} {job.items:,} items"
