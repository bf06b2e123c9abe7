"""The plan of a contest, as data: which models are trained, audited and repaired, and what each of these steps depends on.

Stages lie in the folders of `launch.pretrain` and the other programs of one stage, so that each model can be examined by itself.
"""

from collections.abc import Iterator
from typing import NamedTuple

from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.plan import StageTask, model_stages
from prec_backdoor.leaderboard.attackers import ATTACKERS
from prec_backdoor.leaderboard.config import ContestConfig

PLAIN, PROMPTED = "clean/pretrain", "clean/optimize_trigger"  # the clean models, without and with a prompt
FINETUNED = "clean/finetune"  # the clean model that repaired models are compared with


class CalibrationTask(NamedTuple):
    """The auditor's calibration models of one seed: `models` of them under the folder `path`, with prompts if `prompted`."""

    path: str
    seed: int
    models: int
    prompted: bool


class AuditTask(NamedTuple):
    """The audit of one model; its row is kept in the file `path`.

    Attributes:
      config: index into the plan's configurations.
      attacker: a name in ATTACKERS, or "clean", "clean-prompted".
      model, calibration: paths of the tasks that make the audited model and its calibration models.
      clean: path of the clean model for comparison; None if the audited model is clean.
    """

    path: str
    seed: int
    config: int
    attacker: str
    model: str
    calibration: str
    clean: str | None = None


class RepairTask(NamedTuple):
    """A repair of one attacked model, and its measurement; its row is kept in the file `path`.

    Attributes:
      config: index into the plan's configurations.
      attacker: a name in ATTACKERS.
      repair: a name in REPAIRS.
      audit: path of the audit whose suspects are repaired; without suspects there is nothing to do.
      model, clean: paths of the tasks that make the attacked model, and the fine-tuned clean model for comparison.
    """

    path: str
    seed: int
    config: int
    attacker: str
    repair: str
    audit: str
    model: str
    clean: str


Task = StageTask | CalibrationTask | AuditTask | RepairTask
Cell = AuditTask | RepairTask


class ContestPlan(NamedTuple):
    """Configurations, the clean one first, and all tasks by path in an order of execution, which is that of the result rows."""

    configs: tuple[ExperimentConfig, ...]
    tasks: dict[str, Task]

    def cells(self) -> list[Cell]:
        """The tasks that give a row."""
        return [task for task in self.tasks.values() if isinstance(task, Cell)]


def make_plan(base: ExperimentConfig, contest: ContestConfig, calibration_models: int) -> ContestPlan:
    """Returns the plan of a contest.

    Args:
      base: a clean configuration with the target group; attackers change its scenario.
      calibration_models: number of the auditor's clean models for each seed.
    """
    entries = [(name, draw) for name in contest.attackers for draw in range(contest.num_draws(name))]
    configs = (base, *(ATTACKERS[name].config(base, draw) for name, draw in entries))
    prompted = any(config.scenario.method().prompted for config in configs)
    tasks: dict[str, Task] = {}
    for seed in dict.fromkeys([*contest.seeds, *range(contest.clean_models)]):
        attacked = seed in contest.seeds
        new = list(_clean_tasks(seed, calibration_models, prompted and attacked))
        for index, (name, draw) in enumerate(entries if attacked else (), 1):
            new += _attack_tasks(seed, index, configs[index], f"{name}-draw-{draw}", name)
            new += _repair_tasks(seed, index, f"{name}-draw-{draw}", new[-1], contest)
        for task in new:
            tasks.setdefault(task.path, task)
    return ContestPlan(configs, tasks)


def _clean_tasks(seed: int, models: int, prompted: bool) -> Iterator[Task]:
    """Trains, calibrates and audits the clean model of a seed, and the same with a prompt if any attack has one."""
    folder = f"seed-{seed}"
    calibration = f"{folder}/calibration"
    yield StageTask(f"{folder}/{PLAIN}", "pretrain", seed, 0, 0.0, None)
    yield CalibrationTask(f"{calibration}/plain", seed, models, False)
    yield AuditTask(f"{folder}/clean/clean.json", seed, 0, "clean", f"{folder}/{PLAIN}", f"{calibration}/plain")
    if prompted:
        yield StageTask(f"{folder}/{PROMPTED}", "optimize_trigger", seed, 0, 0.0, f"{folder}/{PLAIN}")
        yield CalibrationTask(f"{calibration}/prompted", seed, models, True)
        path = f"{folder}/clean/clean-prompted.json"
        yield AuditTask(path, seed, 0, "clean-prompted", f"{folder}/{PROMPTED}", f"{calibration}/prompted")


def _attack_tasks(seed: int, index: int, config: ExperimentConfig, model: str, attacker: str) -> Iterator[Task]:
    """Trains and audits an attacked model; its clean first stages are tasks of `_clean_tasks`."""
    path = None
    for name, stage, rate in model_stages(config, config.rate[0], "zero_shot", model):
        before, path = path, f"seed-{seed}/{name}/{stage}"
        if name == model:
            yield StageTask(path, stage, seed, index, rate, before)
    kind = "prompted" if config.scenario.method().prompted else "plain"
    calibration, clean = f"seed-{seed}/calibration/{kind}", f"seed-{seed}/{PLAIN}"
    yield AuditTask(f"seed-{seed}/{model}/detection.json", seed, index, attacker, path, calibration, clean)


def _repair_tasks(seed: int, index: int, model: str, audit: AuditTask, contest: ContestConfig) -> Iterator[Task]:
    """Repairs an attacked model, after the clean model is fine-tuned."""
    clean = f"seed-{seed}/{FINETUNED}"
    if contest.repairs:
        yield StageTask(clean, "finetune", seed, 0, 0.0, f"seed-{seed}/{PLAIN}")
    for repair in contest.repairs:
        path = f"seed-{seed}/{model}/{repair}/repaired.json"
        yield RepairTask(path, seed, index, audit.attacker, repair, audit.path, audit.model, clean)


def needs(task: Task) -> tuple[str, ...]:
    """Paths of the tasks whose results a task uses."""
    match task:
        case StageTask():
            return task.needs
        case CalibrationTask():
            return ()
        case AuditTask():
            return tuple(filter(None, (task.model, task.calibration, task.clean)))
        case RepairTask():
            return task.audit, task.model, task.clean


def last_uses(plan: ContestPlan) -> dict[str, str]:
    """Path of a task -> path of the last cell that depends on it, directly or through other tasks."""
    last = {}

    def use(path: str, cell: str) -> None:
        last[path] = cell
        for each in needs(plan.tasks[path]):
            use(each, cell)

    for cell in plan.cells():
        use(cell.path, cell.path)
    return last
