"""The executor of plans, with stages that train nothing: what starts from what, what is measured, what is left out."""

import dataclasses
import json

import numpy as np
import pytest
from toys import random_interactions, tiny_model

from prec_backdoor.experiment import run as runs
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.measure import TestRanks, result_rows
from prec_backdoor.experiment.plan import cell_of, make_plan
from prec_backdoor.experiment.run import Output, run_experiment
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.storage import workdir as work
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.stage import StageResult

INTERACTIONS = random_interactions(
    users=80, num_items=56, lengths=(5, 14), attributes={"gender": ("F", "M")}, profile=[[1 + user % 2] for user in range(80)]
)
USAGES = ("zero_shot", "fine_tune")
BRA = ExperimentConfig(
    scenario=Scenario(attack="bra", group="gender=F", targets="unpopular:3", k_core=1),
    rate=(0.2, 0.5),
    usages=USAGES,
    seeds=(0, 1),
    model=tiny_model(num_items=0, num_layers=1, max_length=6),
    pretrain=TrainConfig(batch_size=8, epochs=1),
)
PEA = dataclasses.replace(BRA, scenario=dataclasses.replace(BRA.scenario, attack="pea"), rate=(0.2,))


class Executed:
    """Replaces training and ranking: parameters are made of the name of the stage's folder, and ranks of these."""

    def __init__(self, monkeypatch):
        self.stages, self.measured = [], []
        monkeypatch.setattr(runs, "run_stages", self.run_stages)
        monkeypatch.setattr(runs, "measure", self.measure)

    def run_stages(self, stage_runs, at_once):
        assert at_once == 0
        results = []
        for run in stage_runs:
            path = "/".join(run.options.folder.parts[-3:])
            came_from = run.metadata["parent"]
            run.options.log(
                {"stage": run.stage.name, "step": 1, "seconds": 2.0, "positions": 9.0, "replaced": 9.0 * float(run.spec.rate)}
            )
            self.stages.append((path, came_from, run.metadata["config"]["rate"][0], run.options.watch is not None))
            params = {group: dict(run.params.get(group) or {}) | {"path": path} for group in ("items", "encoder")}
            results.append(StageResult(params, 0.5, 1, {"train": 2.0}, hash=path))
        return results

    def measure(self, setup, params):
        path = params["items"]["path"]
        self.measured.append((path, setup.config.scenario.attack))
        rng = np.random.default_rng(list(path.encode()))
        users = len(setup.test.users)
        return TestRanks(rng.integers(1, 56, users) * 1.0, rng.integers(1, 56, (users, len(setup.targets))) * 1.0)


@pytest.fixture
def executed(monkeypatch):
    monkeypatch.setattr("prec_backdoor.experiment.stages.init_params", lambda key, model: {"items": {}, "encoder": {}})
    monkeypatch.setattr("prec_backdoor.experiment.stages.init_prompt", lambda key, model: {})
    return Executed(monkeypatch)


def silent(folder):
    return Output(folder, say=lambda line: None)


def test_every_stage_starts_from_the_result_before_it(executed, tmp_path):
    run_experiment(INTERACTIONS, [BRA, PEA], silent(tmp_path))
    plan = make_plan([BRA, PEA])
    expected = [(path, task.after, task.rate, task.stage == "finetune") for path, task in plan.tasks.items()]
    assert executed.stages == expected  # once each, in the plan's order; watched downstream alone
    assert sorted(executed.measured) == sorted((each.task, (BRA, PEA)[each.config].scenario.attack) for each in plan.measurements)


def test_rows_are_of_their_own_ranks_and_lift_is_against_the_clean_model_of_seed_and_usage(executed, tmp_path):
    results = run_experiment(INTERACTIONS, [BRA, PEA], silent(tmp_path))
    assert results == json.loads((tmp_path / "results.json").read_text())
    expected = []
    for seed in BRA.seeds:
        for config in (BRA, PEA):
            setup = make_setup(INTERACTIONS, config, seed)
            for usage in USAGES:
                stage = {"zero_shot": "pretrain", "fine_tune": "finetune"}[usage]
                clean = executed.measure(setup, {"items": {"path": f"seed-{seed}/clean/{stage}"}})
                for rate in config.rates() if config is BRA else (0.2,):
                    cell = cell_of(config, seed, rate, usage)
                    last = "implant" if (config is PEA and usage == "zero_shot") else stage
                    path = f"seed-{seed}/{work.model_name(cell)}/{last}"
                    expected += result_rows(setup, cell, executed.measure(setup, {"items": {"path": path}}), clean)
    assert results["rows"] == json.loads(json.dumps(expected))
    assert {row["users"] for row in results["rows"]} == {"all", "target", "rest"}
    assert all(row["lift@5"] == 1 for row in results["rows"] if row["attack"] == "clean")


def test_only_what_is_missing_runs_again(executed, tmp_path):
    expected = run_experiment(INTERACTIONS, [BRA], silent(tmp_path))
    before = {name: len(getattr(executed, name)) for name in ("stages", "measured")}
    assert run_experiment(INTERACTIONS, [BRA], silent(tmp_path)) == expected
    assert {name: len(getattr(executed, name)) for name in before} == before  # a finished run is read
    (tmp_path / "results.json").unlink()
    work.ranks_path(tmp_path, cell_of(BRA, 1, 0.5, "zero_shot")).unlink()
    del executed.stages[:], executed.measured[:]
    again = run_experiment(INTERACTIONS, [BRA], silent(tmp_path))
    assert again | {"timings": None} == expected | {"timings": None}
    assert [path for path, *_ in executed.stages] == ["seed-1/bra-group-0.5/pretrain"]
    assert executed.measured == [("seed-1/bra-group-0.5/pretrain", "bra")]


def test_what_is_said_of_a_run(executed, tmp_path):
    said = []
    run_experiment(INTERACTIONS, [dataclasses.replace(BRA, rate=(0.2,), seeds=(0,))], Output(tmp_path, say=said.append))
    stages = [line for line in said if "ndcg@10" in line]
    assert [line.split()[:2] for line in stages] == [
        [f"seed-0/{model}", stage] for stage in ("pretrain", "finetune") for model in ("clean", "bra-group-0.2")
    ]
    assert all("0.5000" in line and "2.0 s" in line for line in stages)


@pytest.mark.parametrize("together", [False, True])
def test_groups_come_after_what_they_start_from(together):
    tasks, done = make_plan([BRA, PEA]).tasks, []
    found = list(runs.groups(tasks, together))
    for group in found:
        assert len({task.stage for task in group}) == 1
        assert together or len({(task.seed, task.config) for task in group}) == 1
        assert all(not task.after or task.after in done for task in group)
        done += [task.path for task in group]
    assert sorted(done) == sorted(tasks)
    first = {task.path for task in tasks.values() if task.stage == "pretrain"}
    assert (set(task.path for task in found[0]) == first) == together  # of all seeds, rates and attacks
