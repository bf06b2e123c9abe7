"""The plan of a contest as data: what depends on what, what is done and what is left."""

import json

import pytest

from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.plan import StageTask
from prec_backdoor.leaderboard.config import ContestConfig
from prec_backdoor.leaderboard.plan import CalibrationTask, last_uses, make_plan, needs
from prec_backdoor.leaderboard.progress import describe_plan, missing, needed

BASE = ExperimentConfig(Scenario(attack="clean", group="gender=F", targets="unpopular:3"), rate=(0.0,))
CONTEST = ContestConfig(attackers=("pea", "group-0.1"), repairs=("finetune",), seeds=(3,), draws=2, clean_models=1)


@pytest.fixture
def plan():
    return make_plan(BASE, CONTEST, 2)


def write(folder, path, suspects):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(json.dumps({"suspects": suspects}))


def test_every_task_comes_after_what_it_needs_and_lies_in_its_own_place(plan):
    paths = list(plan.tasks)
    for index, (path, task) in enumerate(plan.tasks.items()):
        assert task.path == path and path.startswith(f"seed-{task.seed}/")
        assert set(needs(task)) <= set(paths[:index])


def test_stages_and_their_parents(plan):
    stages = {path: (task.after, task.rate) for path, task in plan.tasks.items() if isinstance(task, StageTask)}
    assert stages == {
        "seed-3/clean/pretrain": (None, 0.0),
        "seed-3/clean/optimize_trigger": ("seed-3/clean/pretrain", 0.0),
        "seed-3/clean/finetune": ("seed-3/clean/pretrain", 0.0),
        "seed-3/pea-draw-0/implant": ("seed-3/clean/optimize_trigger", plan.configs[1].rate[0]),
        "seed-3/pea-draw-1/implant": ("seed-3/clean/optimize_trigger", plan.configs[2].rate[0]),
        "seed-3/group-0.1-draw-0/pretrain": (None, 0.1),
        "seed-3/group-0.1-draw-1/pretrain": (None, 0.1),
        "seed-0/clean/pretrain": (None, 0.0),
    }
    assert all(plan.tasks[path].config == 0 for path in stages if "/clean/" in path)
    configs = [plan.configs[plan.tasks[path].config].scenario for path in stages if "-draw-" in path]
    assert [(each.attack, each.draw) for each in configs] == [("pea", 0), ("pea", 1), ("bra", 0), ("bra", 1)]


def test_models_are_audited_against_calibration_models_of_their_kind(plan):
    kinds = {cell.attacker: cell.calibration for cell in plan.cells() if cell.seed == 3 and hasattr(cell, "calibration")}
    plain, prompted = "seed-3/calibration/plain", "seed-3/calibration/prompted"
    assert kinds == {"clean": plain, "clean-prompted": prompted, "pea": prompted, "group-0.1": plain}
    calibration = [task for task in plan.tasks.values() if isinstance(task, CalibrationTask)]
    assert [(task.path, task.prompted, task.models) for task in calibration] == [
        (plain, False, 2),
        (prompted, True, 2),
        ("seed-0/calibration/plain", False, 2),
    ]


def test_what_no_missing_row_depends_on_is_not_needed(plan, tmp_path):
    assert len(missing(plan, tmp_path)) == len(plan.cells()) == 2 + 4 * 2 + 1
    for cell in plan.cells():
        if cell.path != "seed-3/pea-draw-1/finetune/repaired.json":
            write(tmp_path, cell.path, [1])
    (left,) = missing(plan, tmp_path)
    assert needed(plan, [left], tmp_path) == {
        "seed-3/pea-draw-1/finetune/repaired.json",
        "seed-3/pea-draw-1/detection.json",
        "seed-3/pea-draw-1/implant",
        "seed-3/clean/optimize_trigger",
        "seed-3/clean/pretrain",
        "seed-3/clean/finetune",
    }


def test_a_model_without_suspects_is_not_repaired(plan, tmp_path):
    for cell in plan.cells():
        if cell.path.endswith(("detection.json", "clean.json", "clean-prompted.json")):
            write(tmp_path, cell.path, [] if cell.attacker == "pea" else [4])
    assert [cell.path for cell in missing(plan, tmp_path)] == [
        f"seed-3/group-0.1-draw-{draw}/finetune/repaired.json" for draw in (0, 1)
    ]


def test_a_result_is_kept_until_its_last_use(plan):
    last = last_uses(plan)
    assert last["seed-3/pea-draw-0/implant"] == "seed-3/pea-draw-0/finetune/repaired.json"
    assert last["seed-3/clean/finetune"] == "seed-3/group-0.1-draw-1/finetune/repaired.json"
    assert last["seed-3/calibration/prompted"] == "seed-3/pea-draw-1/finetune/repaired.json"
    assert set(last) == set(plan.tasks)


def test_the_description_shows_what_is_left(plan, tmp_path):
    lines = describe_plan(plan, tmp_path).splitlines()
    assert lines[-1] == f"{len(plan.tasks)} steps, {len(plan.tasks)} to do"
    (line,) = [line for line in lines if line.startswith("| seed-3/pea-draw-0/finetune/repaired.json ")]
    assert line.endswith("| to do if the audit has suspects |")
    for cell in plan.cells():
        write(tmp_path, cell.path, [])
    lines = describe_plan(plan, tmp_path).splitlines()
    assert lines[-1] == f"{len(plan.tasks)} steps, 0 to do"
    assert {line.split("|")[3].strip() for line in lines[2:-2]} == {"not needed", "not needed, no suspects", "done"}
