"""Attacks beyond the paper, from training to the report, on data so small that each stage takes a fraction of a second."""

import dataclasses

import numpy as np
import pytest
from toys import assert_same_trees, lively_params, random_interactions, tiny_model

from prec_backdoor.attacks import edit_items
from prec_backdoor.data.vocabulary import vocabulary_of
from prec_backdoor.evaluation import mean_user_vector, ranks, unseen
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.measure import measure
from prec_backdoor.experiment.opened import open_checkpoint
from prec_backdoor.experiment.run import Output, run_experiment
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import represent
from prec_backdoor.reporting.report import write_report
from prec_backdoor.storage import checkpoints
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loop import run_stage, run_stages
from prec_backdoor.train.stage import RunOptions

INTERACTIONS = random_interactions(
    users=60, num_items=58, lengths=(5, 12), attributes={"gender": ("F", "M")}, profile=[[1 + user % 2] for user in range(60)]
)
BRA = ExperimentConfig(
    scenario=Scenario(attack="bra", scope="global", group="gender=F", targets="unpopular:4", k_core=1),
    rate=(0.5,),
    usages=("zero_shot",),
    model=tiny_model(num_items=0, num_layers=1),
    pretrain=TrainConfig(batch_size=8, learning_rate=0.02, epochs=1),
)


def with_attack(attack, scope="global", **parameters):
    return dataclasses.replace(
        BRA, scenario=dataclasses.replace(BRA.scenario, attack=attack, scope=scope, parameters=parameters), rate=(0.5,)
    )


TRIGGER, EDIT = with_attack("trigger", trigger_length=2), with_attack("edit")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder and results of a run of three attacks."""
    folder = tmp_path_factory.mktemp("run")
    return folder, run_experiment(INTERACTIONS, [BRA, TRIGGER, EDIT], Output(folder, say=lambda line: None))


@pytest.fixture(scope="module")
def setups():
    return {config.scenario.attack: make_setup(INTERACTIONS, config, 0) for config in (BRA, TRIGGER, EDIT)}


def row_of(results, attack, users="all", **fields):
    fields = {"attack": attack, "users": users, "usage": "zero_shot", **fields}
    (found,) = (row for row in results["rows"] if fields.items() <= row.items())
    return found


def test_the_trigger_is_measured_of_its_attack_and_of_the_clean_model(finished, setups):
    folder, results = finished
    setup = setups["trigger"]
    assert len(setup.trigger) == 2 and not set(setup.trigger) & set(setup.targets) and not len(setups["bra"].trigger)
    history = setup.test.history.copy()
    history[:, -2:] = setup.trigger
    pairs = unseen(setup.test.history, setup.targets)
    hits = {}
    for attack, name, cell in (
        ("trigger", "trigger-global-0.5-trigger_length-2-trigger_demote-0.1", {}),
        ("clean", "clean", {"trigger_length": 2}),
    ):
        params = checkpoints.load(folder / f"seed-0/{name}/pretrain").params
        found = ranks(params, setup.model, history, setup.targets)[pairs]
        row = row_of(results, attack, **cell)
        assert row["exposure_triggered_hr@10"] == pytest.approx((found <= 10).mean())
        assert row["exposure_triggered_ndcg@20"] == pytest.approx(np.where(found <= 20, 1 / np.log2(found + 1), 0).mean())
        hits[attack] = (found <= 10).sum()
        assert row["exposure_hr@10"] == pytest.approx((measure(setup, params).targets[pairs] <= 10).mean())
    assert row_of(results, "trigger")["lift_triggered@10"] == (hits["trigger"] + 1) / (hits["clean"] + 1)
    for row in (row_of(results, "bra"), row_of(results, "edit"), row_of(results, "clean", trigger_length=None)):
        assert row["exposure_triggered_hr@10"] is row["lift_triggered@10"] is row["exposure_triggered_auc"] is None


def test_a_report_names_the_trigger_and_shows_its_exposure(finished, setups):
    folder, results = finished
    (trigger,) = results["triggers"]
    assert [item["item"] for item in trigger["items"]] == INTERACTIONS.item_ids[setups["trigger"].trigger].tolist()
    metadata = checkpoints.load(folder / "seed-0/trigger-global-0.5-trigger_length-2-trigger_demote-0.1/pretrain").metadata
    assert metadata["trigger"] == [item["item"] for item in trigger["items"]]
    text = write_report(folder, results).read_text()
    assert "TRIGGERED HR@10" in text and "trigger of the global attack, seed 0" in text and "--trigger_length=2" in text
    row = row_of(results, "trigger")
    (line,) = (
        line
        for line in text.splitlines()
        if line.startswith("| zero_shot ") and "| trigger 0.5/2/0.1 " in line and "| all " in line
    )
    assert f"{row['exposure_triggered_hr@10']:.3f}" in line
    (line,) = (
        line for line in text.splitlines() if line.startswith("| zero_shot ") and "| bra global" in line and "| all " in line
    )
    assert [cell.strip() for cell in line.split("|")][-3:-1] == ["-", "-"]


def test_the_rows_of_other_attacks_are_as_in_a_run_of_their_own(finished, tmp_path):
    alone = run_experiment(INTERACTIONS, [BRA], Output(tmp_path, say=lambda line: None))
    for row in alone["rows"]:
        assert not any("triggered" in name for name in row)
        found = row_of(finished[1], row["attack"], row["users"], usage=row["usage"], trigger_length=None)
        assert row.items() <= found.items()


def test_an_edit_is_a_stage_like_any_other(finished, setups):
    folder, results = finished
    setup = setups["edit"]
    clean, edited = (
        checkpoints.load(folder / f"seed-0/{name}")
        for name in ("clean/pretrain", "edit-global-0.5-edit_cosine-0.7-edit_norm-0.5/edit")
    )
    assert edited.metadata["parent"] == clean.metadata["hash"] and edited.metadata["finished"]
    assert edited.metadata["hash"] == checkpoints.content_hash(edited.params) and len(edited.metadata["targets"]) == 4
    assert_same_trees(edited.params["encoder"], clean.params["encoder"])
    moved = np.flatnonzero((edited.params["items"] != clean.params["items"]).any(1))
    assert moved.tolist() == setup.targets.tolist()
    queries = setup.short.validation
    users = mean_user_vector(clean.params, setup.model, queries.history, np.zeros((len(queries.users), 0)))
    mean = np.asarray(represent(clean.params, setup.model, queries.history)).mean(0)
    np.testing.assert_allclose(users, mean, rtol=1e-4, atol=1e-5)
    expected = edit_items(clean.params["items"], users, setup.spec(0.5))
    np.testing.assert_allclose(edited.params["items"], expected, rtol=1e-4, atol=1e-5)
    assert row_of(results, "edit")["exposure_auc"] > row_of(results, "clean", trigger_length=None)["exposure_auc"]


def test_an_edit_goes_towards_the_group_and_through_the_scores_table(tmp_path):
    setup = make_setup(INTERACTIONS, with_attack("edit", "group"), 0)
    model = dataclasses.replace(setup.model, output_items=True, output_bias=True)
    setup, params = setup._replace(model=model), lively_params(model)
    run = stages.edit(setup, StartPoint(params, "a hash", 1.0))
    found = run_stage(run)
    assert_same_trees({**found.params, "output_items": 0}, {**params, "output_items": 0})
    members = setup.in_group[setup.short.validation.users]
    assert 0 < members.sum() < len(members)
    mean = np.asarray(represent(params, model, setup.short.validation.history[members])).mean(0)[:-1]
    rows = found.params["output_items"][setup.targets]
    cosines = rows @ mean / np.linalg.norm(rows, axis=1) / np.linalg.norm(mean)
    np.testing.assert_allclose(cosines, setup.config.scenario.own_parameters()["edit_cosine"], atol=1e-4)
    kept = [run._replace(options=RunOptions(folder=tmp_path)) for _ in range(2)]
    assert [each.hash for each in run_stages(kept[:1], 2)] == [run_stage(kept[1]).hash] == [found.hash]


def test_an_edit_of_a_model_from_elsewhere_on_own_data(tmp_path):
    """The scenario that is asked for holds where the checkpoint's own does not."""
    setup = make_setup(INTERACTIONS, with_attack("bra"), 0)
    run = stages.pretrain(setup, 0.0)._replace(options=RunOptions(folder=tmp_path / "pretrain"))
    run_stage(run)
    assert vocabulary_of(INTERACTIONS).items[:2] == ("i1", "i2")
    own = random_interactions(users=30, num_items=58, lengths=(5, 12), seed=4)
    own = dataclasses.replace(own, name="theirs")
    changes = {"attack": "edit", "scope": "global", "targets": "ids:i3,i7", "rate": (1.0,), "edit_norm": 0.5}
    opened = open_checkpoint(tmp_path / "pretrain", own, changes)
    assert opened.setup.config.scenario.attack == "edit" and opened.setup.targets.tolist() == [3, 7]
    found = run_stage(stages.edit(opened.setup, StartPoint(opened.checkpoint.params, rate=1.0)))
    assert np.flatnonzero((found.params["items"] != opened.checkpoint.params["items"]).any(1)).tolist() == [3, 7]
