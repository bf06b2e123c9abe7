"""Measures speed and memory against peers, taking turns in one run (docs/benchmark.md).

Writes a table, a figure and benchmark.json.

Tasks: train and evaluate compare systems; batches and large do so at several batch sizes and with a large model, for
accelerators; catalogue and history measure the cost of our step by size; start measures the time to the first steps on ml-100k.
Not resumable; a second run into the same folder overwrites the first.

Examples:
  python -m launch.benchmark --quick
  python -m launch.benchmark --tasks=train --items=4000 --rounds=3
  python -m launch.benchmark --tasks=catalogue,history
  python -m launch.benchmark --tasks=train,evaluate,batches,large --models=8
"""

import json
import os
import time
from pathlib import Path

from absl import flags
from tqdm import tqdm

from prec_backdoor.benchmark import machine, rows
from prec_backdoor.benchmark.figure import draw
from prec_backdoor.benchmark.job import Job
from prec_backdoor.benchmark.peaks import peak_of
from prec_backdoor.benchmark.plan import MAIN, plan
from prec_backdoor.benchmark.start import start_rows
from prec_backdoor.benchmark.systems import PEERS, SYSTEMS, available, has_gpu, missing
from prec_backdoor.benchmark.table import table
from prec_backdoor.benchmark.turns import take_turns
from prec_backdoor.data.registry import cache_folder, load_dataset
from prec_backdoor.errors import UserError

from . import app, flag

DEFAULT = ("train", "evaluate", "catalogue", "history", "start")
TASKS = (*DEFAULT, "batches", "large")
QUICK = {"tasks": ("train", "evaluate"), "items": (MAIN,), "rounds": 3, "seconds": 1.0}


def define_flags() -> None:
    quick = ", ".join(f"--{name}={flag.text(value)}" for name, value in QUICK.items())
    flag.define("quick", False, "benchmark", f"Less than two minutes: {quick}, each unless given.")
    flag.define("tasks", DEFAULT, "benchmark", "What is measured.", choices=TASKS)
    flag.define("items", (4000, MAIN, 1_000_000), "benchmark", "Catalogue sizes of train and evaluate.", minimum=100)
    known = list(dict.fromkeys(name for task in ("train", "evaluate") for name in SYSTEMS[task]))
    flag.define("systems", (), "benchmark", "Systems to compare [all that are installed].", str, choices=known)
    flag.define("rounds", 5, "benchmark", "Number of turns of each system.", minimum=1)
    flag.define("seconds", 1.5, "benchmark", "Minimum length of a turn.", minimum=0)
    flag.define("users", Job("train", "").users, "benchmark", "Number of synthetic users.", minimum=1)
    flag.define("models", 1, "benchmark", "Models that mapped_models trains in one program; 1 leaves it out.", minimum=1)
    flag.define("peak_tflops", None, "benchmark", "Peak of the device's products [known for some].", float, above=0)
    flag.define("peak_gb_per_s", None, "benchmark", "Peak of its memory [known for some].", float, above=0)
    flag.define("workdir", None, "output", "Folder of the results [runs/benchmark-DATE-TIME].", str)


def main() -> None:
    chosen = {name: flags.FLAGS[name].value for name in QUICK}
    chosen |= {name: value for name, value in QUICK.items() if flags.FLAGS.quick and not flag.is_given(name)}
    tasks, rounds = chosen["tasks"], chosen["rounds"]
    _check(tasks, flags.FLAGS.systems)
    sequences = min(Job("train", "").sequences, flags.FLAGS.users)
    base = Job("train", "", users=flags.FLAGS.users, sequences=sequences, models=flags.FLAGS.models)
    groups = plan(tasks, sorted(set(chosen["items"])), base, flags.FLAGS.systems or None)
    workdir = Path(flags.FLAGS.workdir or f"runs/benchmark-{time.strftime('%Y%m%d-%H%M%S')}").expanduser()
    workdir.mkdir(parents=True, exist_ok=True)
    about = machine.describe()

    pieces = sum(len(group.jobs) * (1 + rounds) for group in groups) + (1 + rounds) * ("start" in tasks)
    with tqdm(total=pieces, disable=None, leave=False, unit="turn") as bar:

        def progress(what: str) -> None:
            bar.set_description(what, refresh=False)
            bar.update()

        measured, ceilings = take_turns([group.jobs for group in groups], rounds, chosen["seconds"], progress)
        started = _start(rounds, progress) if "start" in tasks else []
    about |= rows.ceilings(ceilings) | {"load_after": round(os.getloadavg()[0], 2)}
    peak = peak_of(about.get("device", ""), flags.FLAGS.peak_tflops, flags.FLAGS.peak_gb_per_s)
    found = [row for group, each in zip(groups, measured, strict=True) for row in rows.group_rows(group.task, each, about, peak)]
    found += started
    _write(workdir, {"machine": about, "rows": found})

    print(table(found))
    if "gemm_gflops" in about:
        print(f"\nceilings    GEMM {about['gemm_gflops']:.0f} GFLOP/s, copy {about['copy_gb_per_s']:.1f} GB/s (read + written)")
    for each in (each for group in measured for each in group if each.failure):
        print(f"left out    {each.job.task} {each.job.system} at {each.job.items:,} items: {each.failure}")
    if "torch" in missing():
        print(f"peers       none without torch; {PEERS}")
    elif "recbole" in missing() and "train" in tasks:
        print("peers       recbole is not installed; pip install recbole adds it")
    if "torch" not in missing() and not has_gpu() and not flags.FLAGS.systems:
        print(
            "peers       torch_compile and torch_cuda_graphs are measured on a GPU; --systems=torch_compile runs the first here"
        )
    print(f"load        {about['load_before']} before, {about['load_after']} after, on {about['threads']} cores")
    print(f"results     {workdir / 'benchmark.json'}")


def _check(tasks: tuple[str, ...], systems: tuple[str, ...]) -> None:
    if not tasks:
        raise UserError(f"--tasks: needs at least one of {', '.join(TASKS)}")
    if systems and not set(systems) & {name for task in ("train", "evaluate") for name in available(task)}:
        raise UserError(f"--systems: none of {', '.join(systems)} is installed; {PEERS}")


def _start(rounds: int, progress) -> list[dict]:
    """Measures on ml-100k, or on synthetic data of its size if it is not available."""
    program = ["-m", f"{__package__}.pretrain", "--attack=clean"]
    try:
        items = load_dataset("ml-100k").num_items
        program += ["--dataset=ml-100k", f"--cache_dir={cache_folder()}"]
    except UserError:
        items = 1_682
        program += ["--dataset=synthetic", "--synthetic_users=943", f"--synthetic_items={items}"]
    try:
        return start_rows(program, items, rounds, progress)
    except RuntimeError as error:
        raise UserError(f"--tasks=start: {error}") from error


def _write(workdir: Path, results: dict) -> None:
    (workdir / "benchmark.json").write_text(json.dumps(results, indent=1) + "\n")
    figure = draw(results["rows"])
    if figure:
        figure.savefig(workdir / "benchmark.png", dpi=150)


if __name__ == "__main__":
    app.run(main, define_flags)
