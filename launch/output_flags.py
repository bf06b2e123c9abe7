"""The flags that say where a run is written, and the ends of programs: results, reports, single stages."""

import hashlib
import json
from pathlib import Path

from absl import flags

from launch import data_flags, flag
from prec_backdoor import parallel
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.plan import describe_plan, make_plan
from prec_backdoor.experiment.run import Output, run_experiment
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.reporting.report import summary_table, write_report
from prec_backdoor.storage import workdir as work
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import SECONDS_PER_CHECKPOINT, RunOptions, StageRun


def define_flags(required: bool = True, trains: bool = True) -> None:
    """--workdir and, for a program that trains, --tensorboard and --checkpoint_seconds."""
    default = "" if required else " [runs/, named after dataset and flags]"
    flag.define("workdir", None, "output", f"Folder of the run; the same command resumes it{default}.", str, required=required)
    if trains:
        flag.define("tensorboard", False, "output", "Also write metrics.jsonl's numbers for TensorBoard, in WORKDIR/tensorboard.")
        flag.define("checkpoint_seconds", SECONDS_PER_CHECKPOINT, "output", "Seconds between two checkpoints.", minimum=0)


def define_dry_run() -> None:
    """--dry_run."""
    flag.define("dry_run", False, "output", "List all stages, what is done and what is left, and run nothing.")


def workdir() -> Path:
    """--workdir."""
    return Path(flags.FLAGS.workdir).expanduser()


def workdir_or_default(name: str, described: list) -> Path:
    """--workdir, or runs/DATASET-`name`-DIGEST with a digest of what the run is `described` by."""
    if flags.FLAGS.workdir is not None:
        return workdir()
    digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:8]
    dataset = flags.FLAGS.dataset.replace(":", "-").replace("/", "-")
    return Path(f"runs/{dataset}-{name}-{digest}")


def run_and_report(configs: list[ExperimentConfig], name: str) -> None:
    """Runs all `configs`, writes the report and prints its table; with --dry_run, prints the plan alone."""
    interactions = data_flags.dataset_from_flags()
    folder = workdir_or_default(name, [interactions.fingerprint, *(config.flat() for config in configs)])
    if flags.FLAGS.dry_run:
        print(f"{describe_plan(make_plan(configs), folder)}\nworkdir  {folder}")
        return
    options = {name: flags.FLAGS[name].value for name in ("tensorboard", "checkpoint_seconds", "shard_items")}
    print_results(folder, run_experiment(interactions, configs, Output(folder, **options)))


def print_results(folder: Path, results: dict) -> None:
    """Writes the report and prints its table and where everything is; of several processes, the primary one does."""
    if not parallel.primary():
        return
    report = write_report(folder, results)
    print(f"\n{summary_table(folder, results)}\n")
    print(f"report   {report.with_suffix('.html')}, {report}\nresults  {folder / 'results.json'}")


def run_single_stage(run: StageRun, setup: SeedSetup, about: dict | None = None) -> None:
    """Runs one stage into WORKDIR/its name, resumes it there, and prints what came out.

    Args:
      about: what else the result depends on, as in `workdir.claim`.
    """
    name = run.stage.name
    claim_stage(run, setup, about)
    result = run_stage(run._replace(options=stage_options(name)))
    print(f"{name}: best epoch {result.epoch}, validation NDCG@10 {result.score:.4f}, {result.seconds:.1f} s")
    print(f"checkpoint  {workdir() / name}  (content {result.hash[:16]})")


def claim_stage(run: StageRun, setup: SeedSetup, about: dict | None = None) -> None:
    """Makes WORKDIR/the stage's name the folder of this run; raises a UserError if it holds another one."""
    config = run.metadata["config"]
    parent = {"parent": run.metadata["parent"]}
    description = {"config": config, "dataset": setup.interactions.summary(), "checkpoint": parent, **(about or {})}
    work.claim(workdir() / run.stage.name, description)


def stage_options(name: str) -> RunOptions:
    """Options of a stage that is run by itself, from the flags."""
    return RunOptions(
        folder=workdir() / name,
        log=work.metrics_log(workdir(), name, flags.FLAGS.tensorboard),
        checkpoint_seconds=flags.FLAGS.checkpoint_seconds,
        shard_items=flags.FLAGS.shard_items,
    )
