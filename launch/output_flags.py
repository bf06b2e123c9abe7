"""The flags that say where a run is written, and the ends of programs: results, reports, single stages."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from prec_backdoor import parallel
from prec_backdoor.attacks import clean
from prec_backdoor.experiment.checks import reach
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.plan import describe_plan, make_plan
from prec_backdoor.experiment.run import Output, prepare, run_experiment
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.reporting.cells import load_run
from prec_backdoor.reporting.report import summary_of, write_report_of
from prec_backdoor.reporting.tables import time_by_activity
from prec_backdoor.storage import workdir as work
from prec_backdoor.storage.training_log import metrics_log
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import SECONDS_PER_CHECKPOINT, RunOptions, StageResult, StageRun
from prec_backdoor.train.trace import StepTrace

from . import data_flags, flag


def define_flags(required: bool = True, trains: bool = True) -> None:
    """--workdir and, for a program that trains, --tensorboard, --checkpoint_seconds and --profile."""
    default = "" if required else " [runs/, named after dataset and flags]"
    flag.define("workdir", None, "output", f"Folder of the run; the same command resumes it{default}.", str, required=required)
    if trains:
        flag.define("tensorboard", False, "output", "Also write metrics.jsonl's numbers for TensorBoard, in WORKDIR/tensorboard.")
        flag.define("checkpoint_seconds", SECONDS_PER_CHECKPOINT, "output", "Seconds between two checkpoints.", minimum=0)
        help = "Folder for a profiler trace of the first few training steps; the run goes on as without it."
        flag.define("profile", None, "output", help, str)


def define_dry_run() -> None:
    """--dry_run."""
    flag.define("dry_run", False, "output", "List all stages, what is done and what is left, and run nothing.")


def define_models_at_once() -> None:
    """--models_at_once."""
    help = "Models of one stage that train together, at most [as many as fit in a GPU's or TPU's memory; 1 on a CPU]."
    flag.define("models_at_once", None, "devices", help, int, minimum=1)


def workdir() -> Path:
    """Returns --workdir."""
    return Path(flags.FLAGS.workdir).expanduser()


def beside_workdir(suffix: str) -> Path:
    """Returns the folder beside --workdir whose name ends with `suffix`, where the next program can write."""
    folder = workdir()
    folder = folder if folder.name not in ("", "..") else folder.resolve()
    return folder.with_name(f"{folder.name}-{suffix}")


def workdir_or_default(name: str, described: list) -> Path:
    """Returns --workdir, or runs/DATASET-`name`-DIGEST with a digest of `described`, the description of the run."""
    if flags.FLAGS.workdir is not None:
        return workdir()
    digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:8]
    return Path(f"runs/{data_flags.dataset_name()}-{name}-{digest}")


def run_and_report(configs: list[ExperimentConfig], name: str) -> None:
    """Runs all `configs`, writes the report and prints its table; with --dry_run, only prints the plan."""
    interactions = data_flags.dataset_from_flags()
    folder = workdir_or_default(name, [interactions.fingerprint, *(config.flat() for config in configs)])
    options = {name: flags.FLAGS[name].value for name in ("tensorboard", "checkpoint_seconds", "shard_items")}
    output = Output(folder, trace=trace_from_flags(), models_at_once=flags.FLAGS.models_at_once or 0, **options)
    if flags.FLAGS.dry_run:
        work.check_claim(folder, prepare(interactions, configs, output)[1])
        print(f"{describe_plan(make_plan(configs), folder)}\nworkdir  {folder}")
        return
    print_results(folder, run_experiment(interactions, configs, output))


def print_results(folder: Path, results: dict) -> None:
    """Writes the report and prints its table and the paths; of several processes, only the primary one does."""
    if not parallel.primary():
        return
    run = load_run(folder, results)
    report = write_report_of(run)
    print(f"\n{summary_of(run)}\n")
    print(f"report   {report.with_suffix('.html')}, {report}\nresults  {folder / 'results.json'}")
    if spent := time_by_activity(results["timings"]):
        print(f"seconds  {', '.join(f'{name} {seconds:.1f}' for name, seconds in spent.items())}")


def claimed_stage(name: str, setup: SeedSetup, config: dict, parent: str | None, about: Mapping[str, Any] | None = None):
    """Returns a context that holds --workdir and makes its subfolder `name` that of this run (see `workdir.claimed`).

    Args:
      config: the flat configuration of the stage.
      parent: the content hash of the checkpoint that it starts from.
      about: what else the result depends on, as in `workdir.claim`.
    """
    description = {"config": config, "dataset": setup.interactions.summary(), "checkpoint": {"parent": parent}, **(about or {})}
    return work.claimed(workdir(), description, name)


def run_single_stage(run: StageRun) -> StageResult:
    """Runs one stage into WORKDIR/its name, resumes it there, and prints the result."""
    name = run.stage.name
    result = run_stage(run._replace(options=stage_options(name)))
    which = "last" if run.stage.keep_last else "best"
    print(f"{name}: {which} epoch {result.epoch}, validation NDCG@10 {result.score:.4f}, {sum(result.seconds.values()):.1f} s")
    print(f"checkpoint  {workdir() / name}  (content {result.hash[:16]})")
    return result


def claim_and_run(run: StageRun, setup: SeedSetup) -> None:
    """`run_single_stage` within `claimed_stage`; an attack that would replace no label is refused before."""
    if run.stage.poison is not clean and run.spec.rate > 0:
        reach(setup)
    with claimed_stage(run.stage.name, setup, run.metadata["config"], run.metadata["parent"]):
        run_single_stage(run)


def stage_options(name: str) -> RunOptions:
    """Returns the options of a stage in a program that runs one, from the flags."""
    return RunOptions(
        folder=workdir() / name,
        log=metrics_log(workdir(), name, flags.FLAGS.tensorboard),
        checkpoint_seconds=flags.FLAGS.checkpoint_seconds,
        shard_items=flags.FLAGS.shard_items,
        trace=trace_from_flags(),
    )


def trace_from_flags() -> StepTrace | None:
    """Returns the trace that --profile asks for; only the primary process makes one."""
    folder = flags.FLAGS.profile
    return StepTrace(Path(folder).expanduser()) if folder and parallel.primary() else None
