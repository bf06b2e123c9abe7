"""The plan of a run, as data: which stages make which model, which start from which, and what is measured of each model."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from prec_backdoor.attacks import attack_parameters
from prec_backdoor.attacks.evasion import named
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.storage import checkpoints
from prec_backdoor.storage import workdir as work

STAGE_ORDER = ("pretrain", "edit", "optimize_trigger", "implant", "prompt_tune", "finetune")
_DOWNSTREAM = {"zero_shot": (), "prompt_tune": ("prompt_tune",), "fine_tune": ("finetune",)}  # usage -> its stages


class StageTask(NamedTuple):
    """One stage of one model.

    Attributes:
      path: its folder under the workdir, as seed-0/clean/pretrain.
      stage: a name in `stages.STAGES`.
      seed, config: which seed, and which of the configurations.
      rate: of the attack on the model; 0 is clean.
      after: path of the task that it starts from, None for fresh parameters.
      number: which of several triggers it optimises.
      others: paths of the tasks that make the further triggers.
    """

    path: str
    stage: str
    seed: int
    config: int
    rate: float
    after: str | None
    number: int = 0
    others: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Paths of the tasks whose results it uses."""
        return (*((self.after,) if self.after else ()), *self.others)

    @property
    def model(self) -> str:
        """The model's folder, as seed-0/clean."""
        return self.path.rpartition("/")[0]


class Measurement(NamedTuple):
    """Ranks of one model in one usage.

    Attributes:
      cell: of `cell_of`.
      config: index of its configuration.
      task: path of the stage whose result is measured.
    """

    cell: dict
    config: int
    task: str


class Plan(NamedTuple):
    """All tasks by path in an order of execution, and all measurements in the order of the result rows."""

    tasks: dict[str, StageTask]
    measurements: tuple[Measurement, ...]


def make_plan(configs: Sequence[ExperimentConfig]) -> Plan:
    """Returns the plan of configurations that share seeds, data and model; clean models are made once per seed."""
    tasks: dict[str, StageTask] = {}
    measurements: dict[Path, Measurement] = {}
    for seed in configs[0].seeds:
        for number, config in enumerate(configs):
            for usage in config.usages:
                for rate in config.rates():
                    cell, last = cell_of(config, seed, rate, usage), None
                    for task in model_tasks(config, cell, number):
                        tasks.setdefault(task.path, task)
                        last = task.path
                    measurements.setdefault(work.ranks_path(Path(), cell), Measurement(cell, number, last))
    seeds = list(configs[0].seeds)
    order = sorted(tasks.values(), key=lambda task: (seeds.index(task.seed), task.config, STAGE_ORDER.index(task.stage)))
    return Plan({task.path: task for task in order}, tuple(measurements.values()))


def cell_of(config: ExperimentConfig, seed: int, rate: float, usage: str) -> dict:
    """What identifies a cell of the results, one model in one usage: attack, scope, rate, parameters, usage, seed, draw.

    There is a field for each parameter of every registered attack; it is None if the attack of the cell has no such parameter.
    An attack that evades is named with what it evades, as bra~exposure. A clean model has the parameters it is measured with.
    """
    scenario = config.scenario
    own = scenario.own_parameters() if rate else scenario.measured_parameters()
    return {
        "attack": named(scenario.attack, scenario.evade) if rate else "clean",
        "scope": scenario.scope,
        "rate": rate,
        **{name: own.get(name) for name in attack_parameters()},
        "usage": usage,
        "seed": seed,
        "draw": scenario.draw,
    }


def model_tasks(config: ExperimentConfig, cell: dict, number: int) -> Iterator[StageTask]:
    """Yields the tasks that make the model of a cell, the last one last; `number` is that of the configuration."""
    seed, last, others = cell["seed"], None, []
    for model, stage, rate in model_stages(config, cell["rate"], cell["usage"], work.model_name(cell)):
        path = f"seed-{seed}/{model}/{stage}"
        if stage == "optimize_trigger":
            own = config.scenario.own_parameters()
            of = f"-history-{own['trigger_history']}" if own.get("trigger_history") else ""
            for trigger in range(1, own.get("triggers", 1)):
                other = f"seed-{seed}/{model}-trigger-{trigger + 1}{of}/{stage}"
                others.append(other)
                yield StageTask(other, stage, seed, number, rate, last, number=trigger)
        yield StageTask(path, stage, seed, number, rate, last, others=tuple(others) if stage == "implant" else ())
        last = path


def model_stages(config: ExperimentConfig, rate: float, usage: str, name: str) -> Iterator[tuple[str, str, float]]:
    """Yields (model, stage, rate) from the first stage of a model to the last; an attacked model is called `name`."""
    method = config.scenario.method()
    if rate and method.prompted:
        yield from (("clean", "pretrain", 0.0), ("clean", "optimize_trigger", 0.0), (name, "implant", rate))
    elif rate and method.edit:
        yield from (("clean", "pretrain", 0.0), (name, "edit", rate))
    else:
        yield name, "pretrain", rate
    yield from ((name, stage, rate) for stage in _DOWNSTREAM[usage])


def needed(plan: Plan, measurements: Iterable[Measurement]) -> dict[str, StageTask]:
    """The tasks that these measurements depend on, in the plan's order."""
    paths, open_paths = set(), [measurement.task for measurement in measurements]
    while open_paths:
        path = open_paths.pop()
        if path not in paths:
            paths.add(path)
            open_paths += plan.tasks[path].needs
    return {path: task for path, task in plan.tasks.items() if path in paths}


def missing(plan: Plan, folder: str | Path) -> list[Measurement]:
    """The measurements whose ranks are not in the workdir."""
    return [each for each in plan.measurements if not work.ranks_path(folder, each.cell).exists()]


def describe_plan(plan: Plan, folder: str | Path) -> str:
    """A table of all stages and measurements: what each starts from, and whether it is done, under way or to do."""
    folder, to_measure = work.as_path(folder), missing(plan, folder)
    to_run = needed(plan, to_measure)
    lines = [(path, ", ".join(task.needs) or "-", stage_state(task, folder, path in to_run)) for path, task in plan.tasks.items()]
    for each in plan.measurements:
        path = work.ranks_path(folder, each.cell)
        state = "to do" if each in to_measure else "done"
        lines.append((f"measure {path.relative_to(folder)}", each.task, state))
    table = tabulate(lines, headers=("stage", "starts from", "state"), tablefmt="github")
    left = sum(not state.startswith(("done", "not needed")) for _, _, state in lines)
    return f"{table}\n\n{len(lines)} steps, {left} to do"


def stage_state(task: StageTask, folder: Path, wanted: bool) -> str:
    """The state of a stage's folder: done, under way, to do, or not needed if no missing result depends on it."""
    metadata = checkpoints.progress(folder / task.path / "checkpoints")
    if metadata and metadata["finished"]:
        return "done"
    if metadata and wanted:
        return f"under way, {metadata['progress']['epoch']} epochs done"
    return "to do" if wanted else "not needed"
