"""Progress of a contest: which rows are finished, which steps are left."""

import json
from pathlib import Path

from tabulate import tabulate

from prec_backdoor.experiment.plan import StageTask, stage_state
from prec_backdoor.leaderboard.plan import AuditTask, CalibrationTask, Cell, ContestPlan, RepairTask, Task, needs
from prec_backdoor.storage import checkpoints
from prec_backdoor.storage.workdir import as_path


def read_row(path: Path) -> dict | None:
    """The row of a finished cell; None if it is not finished."""
    return json.loads(path.read_text()) if path.exists() else None


def is_void(task: Task, folder: Path) -> bool:
    """Whether a task is a repair of a model whose audit, which is finished, has no suspects."""
    if not isinstance(task, RepairTask):
        return False
    row = read_row(folder / task.audit)
    return row is not None and not row["suspects"]


def missing(plan: ContestPlan, folder: Path) -> list[Cell]:
    """The cells that have something to do and are not finished."""
    return [cell for cell in plan.cells() if not (folder / cell.path).exists() and not is_void(cell, folder)]


def needed(plan: ContestPlan, cells: list[Cell], folder: Path) -> set[str]:
    """Paths of all tasks on which `cells` depend, these included; a finished row depends on nothing."""
    paths, open_paths = set(), [cell.path for cell in cells]
    while open_paths:
        path = open_paths.pop()
        if path not in paths:
            paths.add(path)
            finished = isinstance(plan.tasks[path], Cell) and (folder / path).exists()
            open_paths += () if finished else needs(plan.tasks[path])
    return paths


def describe_plan(plan: ContestPlan, folder: str | Path) -> str:
    """A table of all tasks: what each depends on, and whether it is done, under way or to do."""
    folder = as_path(folder)
    wanted = needed(plan, missing(plan, folder), folder)
    lines = [(path, ", ".join(needs(task)) or "-", _state(task, folder, path in wanted)) for path, task in plan.tasks.items()]
    table = tabulate(lines, headers=("step", "depends on", "state"), tablefmt="github")
    left = sum(not state.startswith(("done", "not needed")) for *_, state in lines)
    return f"{table}\n\n{len(lines)} steps, {left} to do"


def _state(task: Task, folder: Path, wanted: bool) -> str:
    match task:
        case StageTask():
            return stage_state(task, folder, wanted)
        case CalibrationTask():
            last = "prompt_tune" if task.prompted else "pretrain"
            found = [checkpoints.progress(folder / task.path / f"clean-{each}/{last}/checkpoints") for each in range(task.models)]
            finished = sum(bool(each and each["finished"]) for each in found)
            if finished == task.models:
                return "done"
            return (f"under way, {finished} of {task.models} models done" if finished else "to do") if wanted else "not needed"
        case AuditTask():
            return "to do" if wanted else "done"
        case RepairTask():
            if is_void(task, folder):
                return "not needed, no suspects"
            known = (folder / task.audit).exists()
            return ("to do" if known else "to do if the audit has suspects") if wanted else "done"
