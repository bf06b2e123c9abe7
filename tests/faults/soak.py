"""Kills a small experiment again and again, restarts it by the same command, and compares it with one that nobody disturbed.

python -m tests.faults.soak --kills=50 [--seed=0] [--workdir=DIR]

Real processes and real signals: SIGKILL, and SIGTERM one time in five. Moments are drawn from --seed: at any time from the start
of the program on, while training, while a checkpoint is being written, while models are measured, while results are written. When
the experiment ends before all kills are done, another begins. Exit status 0 if nothing was lost and everything came out the same.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from prec_backdoor.storage import checkpoints

ROOT = Path(__file__).parents[2]
EXPERIMENT = (
    *("--synthetic_users=60", "--synthetic_items=80", "--k_core=2", "--group=gender=F", "--targets=unpopular:3", "--rate=0.5"),
    *("--embed_dim=8", "--feedforward_dim=8", "--num_layers=1", "--max_length=8", "--dropout=0.2", "--batch_size=8"),
    *("--usages=zero_shot,fine_tune", "--patience=1000", "--learning_rate=0.01", "--finetune_learning_rate=0.01"),
)
LENGTH = ("--epochs=200", "--finetune_epochs=100", "--seeds=0,1", "--checkpoint_seconds=0.2")
TEMPORARY = "seed-*/*/*/checkpoints/*.orbax-checkpoint-tmp*"
SECONDS_TO_EXIT = 60  # after SIGTERM, on a machine that does other things too
OUR_ENDS = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)  # the second: SIGTERM while Python is still starting


class Stage(NamedTuple):
    """What is complete of a stage: its newest checkpoint's step, whether it is the last, and the content hash."""

    step: int
    finished: bool
    hash: str


class Seen(NamedTuple):
    """What is in a run's folder: of each stage what is complete, and (stage, step) -> the lines of metrics.jsonl about it."""

    stages: dict[str, Stage]
    records: dict[tuple[str, int], list[str]]


class Run:
    """One experiment in `folder`, started as often as it takes."""

    def __init__(self, folder: Path, flags: tuple[str, ...], cache: Path):
        self.folder, self.flags = folder, flags
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        self.errors = folder.with_suffix(".err")

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen]:
        """A process of the experiment; it does not outlive the context."""
        command = (sys.executable, "-m", "launch.experiment", *self.flags, f"--workdir={self.folder}")
        with open(self.errors, "wb") as errors:
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL, stderr=errors)
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def finish(self) -> None:
        """Runs it to its end."""
        with self.started() as process:
            status = process.wait()
        assert status == 0, f"exit status {status}: {self.errors.read_text()}"

    def count(self, pattern: str) -> int:
        return sum(1 for _ in self.folder.glob(pattern))

    def half_written(self) -> set[tuple[str, int]]:
        """Checkpoints that are not complete, each by its folder's name and inode."""
        with contextlib.suppress(OSError):  # it may vanish, or come to be whole, while it is looked at
            return {(str(path), path.stat().st_ino) for path in self.folder.glob(TEMPORARY)}
        return set()

    def size(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0

    def finished(self) -> int:
        """How many stages are; a folder may vanish while it is looked at."""
        with contextlib.suppress(OSError):
            return sum(stage.finished for stage in self.seen().stages.values())
        return 0

    def seen(self) -> Seen:
        stages, records = {}, collections.defaultdict(list)
        for folder in self.folder.glob("seed-*/*/*/checkpoints"):
            steps = [int(child.name) for child in folder.iterdir() if child.name.isdecimal()]
            if steps:
                metadata = json.loads((folder / str(max(steps)) / "metadata" / "metadata").read_text())
                name = str(folder.parent.relative_to(self.folder))
                stages[name] = Stage(max(steps), metadata["finished"], metadata["hash"])
        log = self.folder / "metrics.jsonl"
        for line in log.read_text().splitlines(keepends=True) if log.exists() else ():
            if line.endswith("\n"):  # the last may have been cut off
                record = json.loads(line)
                records[f"{record['run']}/{record['stage']}", record["step"]].append(line)
        return Seen(stages, dict(records))

    def outcome(self) -> dict:
        """What must not depend on kills: content hashes of all stages (of the arrays, read again), rows, what is recorded."""
        seen = self.seen()
        hashes = {stage: checkpoints.load(self.folder / stage).metadata["hash"] for stage in seen.stages}
        rows = json.loads((self.folder / "results.json").read_text())["rows"]
        report = all(self.size(name) for name in ("results.csv", "report.md", "report.html"))
        counts = {key: len(lines) for key, lines in seen.records.items()}
        return {"parameters": hashes, "rows": rows, "records": counts, "report": report, "left over": self.count(TEMPORARY)}


def moments(run: Run, draw: random.Random) -> dict[str, tuple[Callable[[], bool], float]]:
    """Kind of moment -> (whether it has come, the most seconds to wait from then on), as seen from now."""
    met, ranks = run.half_written(), run.count("*/ranks/*")
    finished, size, saves = run.finished(), run.size("metrics.jsonl"), len(met) + draw.randint(1, 2)

    def saving() -> bool:
        met.update(run.half_written())
        return len(met) >= saves

    return {
        "any": (lambda: True, 5.0),
        "training": (lambda: run.size("metrics.jsonl") > size, 1.0),
        "saving": (saving, 0.04),
        "measuring": (lambda: run.finished() > finished, 0.2),
        "ranks": (lambda: run.count("*/ranks/*") > ranks, 0.01),
        "results": (lambda: run.size("results.csv") > 0, 1.5),
    }


WEIGHTS = {"any": 3, "training": 3, "saving": 6, "measuring": 4, "ranks": 2, "results": 1}


def kill_once(run: Run, draw: random.Random) -> tuple[str, int] | None:
    """Starts the experiment and kills it at a moment drawn: (kind of moment, exit status); None if it ended before.

    Raises:
      AssertionError: it failed by itself.
      TimeoutExpired: it did not end after SIGTERM.
    """
    kind = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    signum = signal.SIGTERM if draw.random() < 0.2 else signal.SIGKILL
    (come, wait), share = moments(run, draw)[kind], draw.random()
    with run.started() as process:
        while process.poll() is None and not come():
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(share * wait)
        killed = process.poll() is None
        process.send_signal(signum)
        status = process.wait(SECONDS_TO_EXIT)
    assert status == 0 or (killed and status in OUR_ENDS), f"exit status {status} after {kind}: {run.errors.read_text()}"
    return (kind, status) if status else None


def lost(before: Seen, now: Seen) -> list[str]:
    """What was there before a process and is not after it: a checkpoint, or the record of a step that was saved."""
    missing = []
    for folder, stage in before.stages.items():
        found = now.stages.get(folder)
        if found is None or found.step < stage.step or (stage.finished and found != stage):
            missing.append(f"{folder} was {stage}, is {found}")
        saved = {key: lines for key, lines in before.records.items() if key[0] == folder and key[1] <= stage.step}
        again = [key[1] for key, lines in saved.items() if now.records.get(key) != lines]
        missing += [f"{folder}: saved up to step {stage.step}, but taken again: {again}"] if again else []
    return missing


def soak(kills: int, seed: int, folder: Path, length: tuple[str, ...] = LENGTH) -> dict:
    """The figures of a soak: kills, resumed, lost, equal, and half_written: after how many kills a checkpoint was. Says on stderr
    how it goes."""
    draw, cache, started = random.Random(seed), folder / "cache", time.monotonic()
    undisturbed = Run(folder / "undisturbed", (*EXPERIMENT, *length), cache)
    undisturbed.finish()
    expected = undisturbed.outcome()
    say(f"undisturbed: {time.monotonic() - started:.0f} s, {len(expected['parameters'])} stages")
    count, kinds, experiments = collections.Counter(kills=0, resumed=0, lost=0, half_written=0), collections.Counter(), 0
    equal = True
    while count["kills"] < kills:
        experiments += 1
        run, killed = Run(folder / f"seed-{seed}-{experiments}", undisturbed.flags, cache), None
        shutil.rmtree(run.folder, ignore_errors=True)
        while True:
            before, temporary, waits = run.seen(), run.half_written(), killed is not None
            killed = kill_once(run, draw) if count["kills"] < kills else run.finish()
            count["resumed"] += waits  # what was killed before has gone on, to the next kill or to its end
            for each in lost(before, run.seen()):
                count["lost"] += 1
                say(f"LOST {each}")
            if killed is None:
                break
            count["kills"] += 1
            count["half_written"] += bool(run.half_written() - temporary)
            kinds[killed[0]] += 1
            steps = ", ".join(f"{stage.step}{'.' * stage.finished}" for stage in run.seen().stages.values())
            say(f"kill {count['kills']}: {killed[0]}, exit status {killed[1]}; saved: {steps or 'nothing'}")
        found = run.outcome()
        equal &= found == expected
        differ = ", ".join(name for name in expected if found[name] != expected[name])
        say(f"experiment {experiments}: {f'DIFFERS in {differ}' if differ else 'as undisturbed'}")
    say(f"{dict(kinds)}; {count['half_written']} left a half-written checkpoint; {time.monotonic() - started:.0f} s in all")
    return {**count, "equal": equal}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=Path, help="keep the experiments there; the undisturbed one is run once for all soaks")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.workdir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        found = soak(given.kills, given.seed, folder.absolute())
    equal = "yes" if found["equal"] else "no"
    print(f"{found['kills']} kills, {found['resumed']} resumed, {found['lost']} lost, parameters equal: {equal}")
    return 0 if found["kills"] == found["resumed"] == given.kills and not found["lost"] and found["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
