"""Runs the plan of one or several configurations: pre-train, use downstream, measure. Every step is resumable."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from prec_backdoor import parallel
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.checks import check_setup, reaches
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.measure import (
    TestRanks,
    about_setups,
    measure,
    result_rows,
    save_measured,
    test_users,
    watch_exposure,
)
from prec_backdoor.experiment.plan import Measurement, Plan, StageTask, cell_of, make_plan, missing, needed
from prec_backdoor.experiment.setup import SeedSetup, make_setup
from prec_backdoor.experiment.stages import STAGES, StartPoint
from prec_backdoor.storage import workdir as work
from prec_backdoor.storage.training_log import metrics_log, replaced_labels
from prec_backdoor.train.clock import added, compile_clock, timed
from prec_backdoor.train.loop import run_stages
from prec_backdoor.train.program import together
from prec_backdoor.train.stage import SECONDS_PER_CHECKPOINT, RunOptions, StageRun
from prec_backdoor.train.trace import StepTrace

WATCHED = ("prompt_tune", "finetune")  # downstream stages, during which the targets' exposure is recorded


class Output(NamedTuple):
    """Where and how a run is written; no result depends on these.

    Attributes:
      folder: the workdir.
      say: called with a line for each finished stage.
      tensorboard: also write the numbers of metrics.jsonl for TensorBoard.
      checkpoint_seconds: time between two checkpoints of an unfinished stage.
      shard_items: split item tables over the devices.
      trace: traces a few steps for the profiler.
      models_at_once: models of one stage that train together, at most; 0 for as many as the devices gain by.
    """

    folder: str | Path
    say: Callable[[str], None] = print
    tensorboard: bool = False
    checkpoint_seconds: float = SECONDS_PER_CHECKPOINT
    shard_items: bool = False
    trace: StepTrace | None = None
    models_at_once: int = 0


def run_experiment(interactions: Interactions, configs: Sequence[ExperimentConfig], output: Output | str | Path) -> dict:
    """Runs what is not in the workdir yet of `configs` and returns the content of results.json.

    Args:
      configs: may differ in rates and, within the scenario, in attack, scope, targets, draw and parameters. Clean models, what is
        fine-tuned and prompt-tuned from them, and their triggers are trained once per seed and shared.
      output: an `Output`, or the workdir.

    Raises:
      UserError: a scenario does not fit the dataset, or the workdir holds another run.
    """
    output = output if isinstance(output, Output) else Output(output)
    output = output._replace(folder=work.as_path(output.folder))
    setups, description = prepare(interactions, configs, output)
    # Before the workdir is claimed, as it may refuse an attack; a finished run returns at once.
    reached = [] if work.finished_results(output.folder) else reaches(setups.values())
    with work.claimed(output.folder, description):
        if (done := work.finished_results(output.folder)) is not None:
            output.say(f"{output.folder}: finished before; nothing to run")
            return done
        plan = make_plan(configs)
        for seed in configs[0].seeds:
            work.save_test_users(output.folder, seed, test_users(setups[seed, 0]))
        execute(plan, setups, output)
        replaced = check_replaced(plan, output.folder)
        rows = read_rows(plan, setups, output.folder)
        description |= about_setups(setups.values(), output.folder) | {"reach": reached, "replaced_labels": replaced}
        return work.write_results(output.folder, description, rows, work.timings(output.folder))


def prepare(
    interactions: Interactions, configs: Sequence[ExperimentConfig], output: Output
) -> tuple[dict[tuple[int, int], SeedSetup], dict]:
    """Returns (seed, index of the configuration) -> setup, and the description of the run for `workdir.claim`.

    Raises:
      UserError: a scenario does not fit the dataset.
    """
    _check_targets(configs)
    bases = [make_setup(interactions, configs[0], seed, output.shard_items) for seed in configs[0].seeds]
    setups = {(base.seed, number): base.with_config(config) for base in bases for number, config in enumerate(configs)}
    for (_, number), setup in setups.items():
        check_setup(setup, configs[number].usages)
    description = {"config": _merged([config.flat() for config in configs]), "dataset": bases[0].interactions.summary()}
    return setups, description


def execute(plan: Plan, setups: dict[tuple[int, int], SeedSetup], output: Output) -> None:
    """Runs the stages that missing measurements depend on, and measures.

    Args:
      setups: (seed, index of the configuration) -> setup.
    """
    measurements = missing(plan, output.folder)
    tasks = needed(plan, measurements)
    uses = Counter(path for task in tasks.values() for path in task.needs) + Counter(each.task for each in measurements)
    made: dict[str, StartPoint] = {}

    def take(path: str) -> StartPoint:
        """A stage's result; it is forgotten with its last use."""
        uses[path] -= 1
        return made[path] if uses[path] else made.pop(path)

    places = {path: f"stage {number} of {len(tasks)}" for number, path in enumerate(tasks, 1)}
    for group in groups(tasks, together(output.models_at_once)):
        starts = [[take(path) for path in task.needs] for task in group]
        runs = [stage_run(task, setups[task.seed, task.config], *found) for task, found in zip(group, starts, strict=True)]
        options = [run_options(task, places[task.path], setups[task.seed, task.config], output) for task in group]
        runs = [run._replace(options=each) for run, each in zip(runs, options, strict=True)]
        results = run_stages(runs, output.models_at_once)
        for task, run, result in zip(group, runs, results, strict=True):
            made[task.path] = StartPoint.after(result, task.rate)
            work.set_timings(output.folder, task.path, result.seconds)
            what = f"{task.model:<40} {task.stage:<17}{'last' if run.stage.keep_last else 'best'} epoch"
            output.say(f"{what} {result.epoch:>3}  ndcg@10 {result.score:.4f}  {sum(result.seconds.values()):6.1f} s")
        for each in measurements:
            if each.task in made and plan.tasks[each.task] in group:
                rank_cell(each, setups[each.cell["seed"], each.config], take(each.task), output)
    parallel.wait("ranks")  # of the process that writes them


def groups(tasks: dict[str, StageTask], side_by_side: bool) -> Iterator[list[StageTask]]:
    """Yields tasks that run side by side, each group after what its tasks start from.

    Args:
      side_by_side: all tasks of a stage at once, so that they train in one program; otherwise those of a seed and configuration,
        so that few results are in memory.
    """
    left, done = list(tasks.values()), set()
    while left:
        first, ready = left[0], [task for task in left if done.issuperset(task.needs)]
        alike = [task for task in ready if task.stage == first.stage]
        if not side_by_side:
            alike = [task for task in alike if (task.seed, task.config) == (first.seed, first.config)]
        yield alike
        done |= {task.path for task in alike}
        left = [task for task in left if task.path not in done]


def rank_cell(measurement: Measurement, setup: SeedSetup, model: StartPoint, output: Output) -> None:
    """Measures a model and writes the ranks, and how long that took."""
    with compile_clock() as compiled:
        found, seconds = timed("rank", compiled, lambda: measure(setup, model.params))
    save_measured(work.ranks_path(output.folder, measurement.cell), setup, found)
    before = work.timings(output.folder).get(measurement.task, {})
    work.set_timings(output.folder, measurement.task, added(before, seconds))


def check_replaced(plan: Plan, folder: Path) -> dict[str, dict[str, int]]:
    """Returns `training_log.replaced_labels`; raises a UserError if an attacked model's attack replaced none."""
    found = replaced_labels(folder)
    for task in plan.tasks.values():
        if task.rate and task.stage in ("pretrain", "implant") and task.path not in found:
            raise UserError(f"{folder / task.path}: the attack replaced no label at rate {task.rate:g}; raise --rate")
    return found


def stage_run(task: StageTask, setup: SeedSetup, start: StartPoint | None = None, *others: StartPoint) -> StageRun:
    """Returns what to run for a task, given the results of those that it needs."""
    stage = STAGES[task.stage]
    if start is None:
        return stage(setup, task.rate)
    return stage(setup, start._replace(rate=task.rate, number=task.number, others=others))


def run_options(task: StageTask, place: str, setup: SeedSetup, output: Output) -> RunOptions:
    """Returns how to run a task."""
    return RunOptions(
        folder=work.as_path(output.folder) / task.path,
        log=metrics_log(output.folder, task.model, output.tensorboard),
        watch=watch_exposure(setup) if task.stage in WATCHED else None,
        checkpoint_seconds=output.checkpoint_seconds,
        shard_items=output.shard_items,
        title=f"{task.model} {task.stage}, {place}",
        trace=output.trace,
    )


def read_rows(plan: Plan, setups: dict[tuple[int, int], SeedSetup], folder: Path) -> list[dict]:
    """Returns the rows of results.json from the ranks of all cells."""

    def read(cell: dict) -> TestRanks:
        return TestRanks(**work.load_ranks(work.ranks_path(folder, cell)))

    rows = []
    for each in plan.measurements:
        seed, usage = each.cell["seed"], each.cell["usage"]
        setup = setups[seed, each.config]
        clean = cell_of(setup.config, seed, 0.0, usage)
        rows += result_rows(setup, each.cell, read(each.cell), read(clean))
    names = dict.fromkeys(name for row in rows for name in row)  # some attacks alone have a trigger to measure with
    return [{name: row.get(name) for name in names} for row in rows]


def _merged(configs: list[dict]) -> dict:
    """One configuration that has a list, with an entry for each of `configs`, where these differ."""
    columns = {name: [config[name] for config in configs] for name in configs[0]}
    return {name: column[0] if all(value == column[0] for value in column) else column for name, column in columns.items()}


def _check_targets(configs: Sequence[ExperimentConfig]) -> None:
    targets: dict[tuple, str] = {}
    for scenario in (config.scenario for config in configs):
        if targets.setdefault((scenario.scope, scenario.draw), scenario.targets) != scenario.targets:
            raise UserError(f"two {scenario.scope} attacks of draw {scenario.draw} have other targets; give them other draws")
