"""Which stages a run has, as data; nothing is trained here."""

import dataclasses
import itertools
import json

import pytest

from prec_backdoor.attacks import attack_parameters
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.plan import STAGE_ORDER, cell_of, describe_plan, make_plan, missing, needed
from prec_backdoor.experiment.run import run_experiment
from prec_backdoor.experiment.stages import STAGES
from prec_backdoor.storage import checkpoints
from prec_backdoor.storage import workdir as work

USAGES = ("zero_shot", "prompt_tune", "fine_tune")
USED = ("prompt_tune", "finetune")  # stages of the usages that train
BRA = ExperimentConfig(scenario=Scenario(attack="bra", group="gender=F"), rate=(0.2, 0.5), usages=USAGES, seeds=(3, 1))
PEA = dataclasses.replace(BRA, scenario=dataclasses.replace(BRA.scenario, attack="pea", parameters={"demote_rate": 0.4}))


def test_the_plan_of_one_attack_by_hand():
    plan = make_plan([dataclasses.replace(BRA, rate=(0.2,), usages=("zero_shot", "fine_tune"), seeds=(3,))])
    assert {path: (task.stage, task.seed, task.config, task.rate, task.after) for path, task in plan.tasks.items()} == {
        "seed-3/clean/pretrain": ("pretrain", 3, 0, 0.0, None),
        "seed-3/bra-group-0.2/pretrain": ("pretrain", 3, 0, 0.2, None),
        "seed-3/clean/finetune": ("finetune", 3, 0, 0.0, "seed-3/clean/pretrain"),
        "seed-3/bra-group-0.2/finetune": ("finetune", 3, 0, 0.2, "seed-3/bra-group-0.2/pretrain"),
    }
    assert [(each.cell["attack"], each.cell["usage"], each.config, each.task) for each in plan.measurements] == [
        ("clean", "zero_shot", 0, "seed-3/clean/pretrain"),
        ("bra", "zero_shot", 0, "seed-3/bra-group-0.2/pretrain"),
        ("clean", "fine_tune", 0, "seed-3/clean/finetune"),
        ("bra", "fine_tune", 0, "seed-3/bra-group-0.2/finetune"),
    ]
    assert plan.tasks["seed-3/bra-group-0.2/finetune"].model == "seed-3/bra-group-0.2"


def test_pea_starts_from_the_clean_model_and_its_trigger():
    plan = make_plan([dataclasses.replace(PEA, rate=(0.2,), seeds=(3,))])
    attacked = "seed-3/pea-group-0.2-demote_rate-0.4"
    starts = {path: task.after for path, task in plan.tasks.items()}
    assert starts == {
        "seed-3/clean/pretrain": None,
        "seed-3/clean/optimize_trigger": "seed-3/clean/pretrain",
        f"{attacked}/implant": "seed-3/clean/optimize_trigger",
        "seed-3/clean/prompt_tune": "seed-3/clean/pretrain",
        f"{attacked}/prompt_tune": f"{attacked}/implant",
        "seed-3/clean/finetune": "seed-3/clean/pretrain",
        f"{attacked}/finetune": f"{attacked}/implant",
    }
    rates = {path: task.rate for path, task in plan.tasks.items()}
    assert all(rate == (0.2 if path.startswith(attacked) else 0.0) for path, rate in rates.items())
    assert {each.cell["usage"]: each.task for each in plan.measurements if each.cell["rate"]} == {
        "zero_shot": f"{attacked}/implant",
        "prompt_tune": f"{attacked}/prompt_tune",
        "fine_tune": f"{attacked}/finetune",
    }


def test_several_triggers_come_before_what_is_implanted_with_all_of_them():
    scenario = dataclasses.replace(PEA.scenario, parameters={"demote_rate": 0.4, "triggers": 3})
    plan = make_plan(
        [
            dataclasses.replace(PEA, rate=(0.2,), seeds=(3,), usages=("zero_shot",)),
            dataclasses.replace(PEA, scenario=scenario, rate=(0.2,), seeds=(3,), usages=("zero_shot",)),
        ]
    )
    others = tuple(f"seed-3/clean-trigger-{number}/optimize_trigger" for number in (2, 3))
    assert [plan.tasks[path].number for path in ("seed-3/clean/optimize_trigger", *others)] == [0, 1, 2]
    assert {plan.tasks[path].after for path in others} == {"seed-3/clean/pretrain"}
    attacked = plan.tasks["seed-3/pea-group-0.2-demote_rate-0.4-triggers-3/implant"]
    assert attacked.after == "seed-3/clean/optimize_trigger" and attacked.others == others
    assert not plan.tasks["seed-3/pea-group-0.2-demote_rate-0.4/implant"].others
    (each,) = (each for each in plan.measurements if each.task == attacked.path)
    assert set(needed(plan, [each])) == {"seed-3/clean/pretrain", *attacked.needs, attacked.path}
    assert each.cell["triggers"] == 3 and each.cell["trigger_noise"] is None


def test_triggers_from_first_items_are_models_of_their_own():
    parameters = {"demote_rate": 0.4, "triggers": 2}
    scenarios = [dataclasses.replace(PEA.scenario, parameters=parameters | {"trigger_history": length}) for length in (0, 5)]
    config = dataclasses.replace(PEA, rate=(0.2,), seeds=(3,), usages=("zero_shot",))
    plan = make_plan([dataclasses.replace(config, scenario=each) for each in scenarios])
    first = "seed-3/clean/optimize_trigger"
    found = {task.others: task.after for task in plan.tasks.values() if task.stage == "implant"}
    assert found == {(f"seed-3/clean-trigger-2{of}/optimize_trigger",): first for of in ("", "-history-5")}


@pytest.fixture(scope="module")
def both():
    """Two attacks, two rates, three usages, two seeds."""
    return make_plan([BRA, PEA])


def test_clean_models_are_shared(both):
    clean = [path for path in both.tasks if "/clean/" in path]
    stages = ("pretrain", "optimize_trigger", "prompt_tune", "finetune")
    assert sorted(clean) == sorted(f"seed-{seed}/clean/{stage}" for seed in (3, 1) for stage in stages)
    assert len(both.tasks) == 2 * (4 + 2 * 3 + 2 * 3)
    cells = [each.cell for each in both.measurements]
    assert len(cells) == 2 * 3 * 5  # of each seed and usage: clean once, two attacks at two rates
    assert len({work.ranks_path(work.Path(), cell) for cell in cells}) == len(cells)


def test_clean_models_are_measured_for_each_draw_of_targets():
    other = dataclasses.replace(PEA, scenario=dataclasses.replace(PEA.scenario, draw=1))
    plan = make_plan([PEA, other])
    clean = [each for each in plan.measurements if not each.cell["rate"]]
    assert len(clean) == 2 * 2 * 3 and {each.config for each in clean} == {0, 1}
    assert len({each.task for each in clean}) == 2 * 3  # and made once


def test_every_stage_comes_after_the_one_it_starts_from(both):
    places = {path: place for place, path in enumerate(both.tasks)}
    for path, task in both.tasks.items():
        assert task.path == path
        assert task.after is None or (places[task.after] < places[path] and both.tasks[task.after].seed == task.seed)
    assert all(each.task in both.tasks for each in both.measurements)
    assert [task.seed for task in both.tasks.values()] == [3] * (len(places) // 2) + [1] * (len(places) // 2)
    # What can share one program, as the stages of one seed and configuration, stands together.
    groups = [key for key, _ in itertools.groupby(both.tasks.values(), lambda task: (task.seed, task.config, task.stage))]
    assert len(groups) == len(set(groups))
    assert set(STAGE_ORDER) == set(STAGES)


def test_what_is_needed_for_a_measurement(both):
    (each,) = [
        each for each in both.measurements
        if (each.cell["attack"], each.cell["usage"], each.cell["rate"], each.cell["seed"]) == ("pea", "fine_tune", 0.5, 1)
    ]  # fmt: skip
    assert [path.removeprefix("seed-1/") for path in needed(both, [each])] == [
        "clean/pretrain",
        "clean/optimize_trigger",
        "pea-group-0.5-demote_rate-0.4/implant",
        "pea-group-0.5-demote_rate-0.4/finetune",
    ]
    assert needed(both, []) == {}
    assert needed(both, both.measurements) == both.tasks


@pytest.fixture
def under_way(tmp_path, monkeypatch):
    """(plan, folder) of a run that has ended one model, is in the middle of another and has not begun the rest."""
    config = dataclasses.replace(PEA, rate=(0.2,), usages=("zero_shot", "fine_tune"), seeds=(3,))
    plan = make_plan([config])
    for each in plan.measurements:
        if not each.cell["rate"]:
            path = work.ranks_path(tmp_path, each.cell)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    metadata = {
        "seed-3/clean/pretrain": {"finished": True},
        "seed-3/clean/optimize_trigger": {"finished": False, "progress": {"epoch": 7}},
    }
    known = {tmp_path / path / "checkpoints": value for path, value in metadata.items()}
    monkeypatch.setattr(checkpoints, "progress", known.get)
    return plan, tmp_path


def test_what_is_missing(under_way):
    plan, folder = under_way
    assert [(each.cell["attack"], each.cell["usage"]) for each in missing(plan, folder)] == [
        ("pea", "zero_shot"), ("pea", "fine_tune")
    ]  # fmt: skip


def test_the_description_says_what_is_done_under_way_to_do_and_not_needed(under_way):
    plan, folder = under_way
    text = describe_plan(plan, folder)
    assert [cell.strip() for cell in text.splitlines()[0].split("|")[1:-1]] == ["stage", "starts from", "state"]
    states = {cells[0]: cells[1:] for line in text.splitlines() if (cells := [cell.strip() for cell in line.split("|")[1:-1]])}
    attacked = "seed-3/pea-group-0.2-demote_rate-0.4"
    expected = {
        "seed-3/clean/pretrain": ["-", "done"],
        "seed-3/clean/optimize_trigger": ["seed-3/clean/pretrain", "under way, 7 epochs done"],
        f"{attacked}/implant": ["seed-3/clean/optimize_trigger", "to do"],
        "seed-3/clean/finetune": ["seed-3/clean/pretrain", "not needed"],  # it is measured already
        f"{attacked}/finetune": [f"{attacked}/implant", "to do"],
        "measure seed-3/ranks/clean-group-zero_shot.npz": ["seed-3/clean/pretrain", "done"],
        "measure seed-3/ranks/clean-group-fine_tune.npz": ["seed-3/clean/finetune", "done"],
        f"measure seed-3/ranks/{attacked[7:]}-zero_shot.npz": [f"{attacked}/implant", "to do"],
        f"measure seed-3/ranks/{attacked[7:]}-fine_tune.npz": [f"{attacked}/finetune", "to do"],
    }
    assert {name: state for name, state in states.items() if name.startswith(("seed-", "measure "))} == expected
    assert text.endswith("\n\n9 steps, 5 to do")


def test_a_stage_under_way_that_nothing_needs_is_not_needed(under_way):
    plan, folder = under_way
    for each in plan.measurements:
        work.ranks_path(folder, each.cell).touch()
    lines = describe_plan(plan, folder).splitlines()
    assert all("done" in line or "not needed" in line for line in lines if "seed-3" in line)
    assert "not needed" in next(line for line in lines if "optimize_trigger" in line) and lines[-1] == "9 steps, 0 to do"


def test_cells():
    bra = dataclasses.replace(BRA, scenario=dataclasses.replace(BRA.scenario, draw=3))
    common = dict.fromkeys(attack_parameters()) | {"scope": "group", "seed": 0, "draw": 3, "usage": "zero_shot"}
    clean = {**common, "attack": "clean", "rate": 0.0}
    assert cell_of(bra, 0, 0.2, "zero_shot") == {**common, "attack": "bra", "rate": 0.2}
    assert cell_of(bra, 0, 0.0, "zero_shot") == clean
    pea = dataclasses.replace(PEA, scenario=dataclasses.replace(PEA.scenario, draw=3))
    assert cell_of(pea, 0, 0.2, "zero_shot") == {**common, "attack": "pea", "rate": 0.2, "demote_rate": 0.4}
    assert cell_of(pea, 0, 0.0, "zero_shot") == clean
    evasive = dataclasses.replace(bra, scenario=dataclasses.replace(bra.scenario, attack="evasive"))
    found = cell_of(evasive, 0, 0.2, "zero_shot")
    assert found == {**common, "attack": "evasive", "rate": 0.2, "evade_strength": 0.03}
    assert json.loads(json.dumps(found)) == found


def test_a_clean_model_is_measured_with_the_trigger_of_the_attack():
    """And so twice for two triggers, but made once."""
    configs = [
        dataclasses.replace(BRA, scenario=Scenario(attack="trigger", scope="global", parameters={"trigger_length": length}))
        for length in (1, 3)
    ]
    plan = make_plan(configs)
    clean = [each for each in plan.measurements if not each.cell["rate"]]
    assert {each.cell["trigger_length"] for each in clean} == {1, 3} and len(clean) == 2 * 2 * 3
    assert {each.task for each in clean} == {f"seed-{seed}/clean/{name}" for seed in (3, 1) for name in ("pretrain", *USED)}
    paths = {work.ranks_path(work.Path(), each.cell) for each in plan.measurements}
    assert len(paths) == len(plan.measurements)
    assert work.Path("seed-3/ranks/clean-trigger_length-3-global-zero_shot.npz") in paths
    assert work.Path("seed-3/ranks/trigger-global-0.2-trigger_length-3-trigger_demote-0.1-zero_shot.npz") in paths


def test_an_attack_that_evades_is_another_one():
    scenario = dataclasses.replace(BRA.scenario, evade=("exposure", "weights"), parameters={"evade_strength": 0.1})
    plan = make_plan([BRA, dataclasses.replace(BRA, scenario=scenario)])
    cells = {each.cell["attack"]: each.cell for each in plan.measurements}
    assert set(cells) == {"clean", "bra", "bra~exposure+weights"}
    assert [cells[name]["evade_strength"] for name in cells] == [None, None, 0.1]
    assert "seed-3/bra~exposure+weights-group-0.5-evade_strength-0.1/pretrain" in plan.tasks
    assert "seed-3/bra-group-0.5/pretrain" in plan.tasks


def test_two_attacks_of_one_draw_have_the_same_targets(tmp_path):
    other = dataclasses.replace(PEA, scenario=dataclasses.replace(PEA.scenario, targets="unpopular:3"))
    with pytest.raises(UserError, match="two group attacks of draw 0"):
        run_experiment(None, [BRA, other], tmp_path / "run")
    assert not (tmp_path / "run").exists()
