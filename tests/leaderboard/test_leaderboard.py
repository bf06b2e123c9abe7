"""Merit by hand; a contest on tiny data from models to report, and on again after it was broken off."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from toys import random_interactions, tiny_model

from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.inversion import Inverted
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.measure import TestRanks
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.leaderboard import run
from prec_backdoor.leaderboard.config import ContestConfig
from prec_backdoor.leaderboard.lines import Link, model_table
from prec_backdoor.leaderboard.metrics import (
    accuracy_lost,
    defence_effectiveness,
    detection_auc,
    exposure_removed,
    precision_at,
)
from prec_backdoor.leaderboard.report import checkpoint_table, in_short, leaderboard, write_leaderboard
from prec_backdoor.leaderboard.rows import WITHOUT_TRIGGER, expected_replacements, repair_row
from prec_backdoor.leaderboard.run import run_contest
from prec_backdoor.leaderboard.summary import EVERY, by_attacker, by_audit, by_checkpoint, by_repair
from prec_backdoor.repairs.registry import CHECKS, REPAIRS, check_repair
from prec_backdoor.train.config import TrainConfig

INTERACTIONS = random_interactions(
    users=60,
    num_items=80,
    lengths=(4, 16),
    attributes={"gender": ("F", "M")},
    profile=[[1 + user % 2] for user in range(60)],
    category=[1 + item % 3 for item in range(80)],
)
CONFIG = ExperimentConfig(
    scenario=Scenario(attack="clean", group="gender=F", targets="unpopular:3", k_core=1),
    rate=(0.0,),
    model=tiny_model(num_items=0, num_layers=1, max_length=12),
    pretrain=TrainConfig(batch_size=8, learning_rate=0.02, epochs=1),
    prompt_epochs=1,
    implant_epochs=1,
    finetune_epochs=1,
)
CONTEST = ContestConfig(
    attackers=("pea", "group-0.5"),
    repairs=("finetune", "prune"),
    seeds=(0,),
    draws=1,
    clean_models=1,
    p_value=1.0,
)
AUDIT = AuditConfig(calibration_models=1, suspects=2, fresh_prompts=0)
DESCRIPTION = {"config": CONFIG.flat() | dataclasses.asdict(CONTEST), "dataset": INTERACTIONS.summary()}


def test_auc_is_the_share_of_pairs_in_order():
    score, positive = np.array([3.0, 1.0, 2.0, 2.0, 0.0]), np.array([True, False, True, False, False])
    pairs = [(a > b) + (a == b) / 2 for a in score[positive] for b in score[~positive]]
    assert detection_auc(score, positive) == pytest.approx(np.mean(pairs))
    assert precision_at(score, positive, 1) == 1 and precision_at(score, positive, 5) == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("before", "after", "clean", "repaired", "removed", "lost", "der"),
    [
        (0.2, 0.01, 0.25, 0.24, 0.95, 0.04, 0.955),
        (0.2, 0.3, 0.25, 0.30, 0.0, 0.0, 0.5),  # worse exposure and better accuracy earn nothing
        (0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.5),
    ],
)
def test_merit(before, after, clean, repaired, removed, lost, der):
    found = exposure_removed(before, after), accuracy_lost(clean, repaired)
    assert found == pytest.approx((removed, lost))
    assert defence_effectiveness(*found) == pytest.approx(der)


@pytest.mark.parametrize(("scope", "targets"), [("group", "unpopular:3"), ("global", "per_category:2")])
def test_replaced_labels_are_what_the_attack_replaces(scope, targets):
    scenario = dataclasses.replace(CONFIG.scenario, attack="bra", scope=scope, targets=targets)
    setup = make_setup(INTERACTIONS, dataclasses.replace(CONFIG, scenario=scenario), 0)
    rows, expected = setup.pretrain.rows, []
    for target in setup.targets:
        total = 0.0
        for row, column in zip(*np.nonzero(rows.label), strict=True):
            owner = rows.user[row, rows.segment[row, column] - 1]
            if scope == "group":
                total += setup.in_group[owner] / len(setup.targets)
            elif INTERACTIONS.category[rows.label[row, column]] == INTERACTIONS.category[target]:
                total += 1 / 2
        expected.append(0.3 * total)
    np.testing.assert_allclose(expected_replacements(setup, 0.3), expected)


def test_a_trigger_is_in_the_histories_before_and_after_a_repair():
    scenario = dataclasses.replace(CONFIG.scenario, attack="trigger", scope="global")
    setup = make_setup(INTERACTIONS, dataclasses.replace(CONFIG, scenario=scenario), 0)
    users = len(setup.test.users)
    shown, hidden = (np.full((users, len(setup.targets)), rank) for rank in (1.0, 70.0))
    before, after = ({"exposure_hr@50": 1.0, WITHOUT_TRIGGER: 0.25}, TestRanks(np.ones(users), hidden, "cpu", shown))
    before |= {"attacker": "trigger", "adaptive": True, "seed": 0, "draw": 0, "verdict": "clean", "suspects": [1]}
    row = repair_row(setup, before, "finetune", after, after)
    assert (row["exposure_hr@50_before"], row["exposure_hr@50_after"], row["exposure_removed"]) == (1, 1, 0)
    assert (row[f"{WITHOUT_TRIGGER}_before"], row[f"{WITHOUT_TRIGGER}_after"]) == (0.25, 0)


@pytest.fixture(scope="module")
def contested(tmp_path_factory):
    """The rows of a contest, its folder, and what it said. No trigger is inverted: it compiles for long and has own tests."""
    folder, said = tmp_path_factory.mktemp("contest"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prec_backdoor.audit.calibration.STEPS", 60)
        patch.setattr(jax, "clear_caches", lambda: None)  # of so few programs there is room for all
        patch.setattr(
            "prec_backdoor.audit.audit.invert", lambda moments, found, suspects: Inverted(*np.ones((4, len(suspects)), int))
        )
        return run_contest(INTERACTIONS, CONFIG, CONTEST, AUDIT, folder, said.append), folder, said


def test_every_attacker_is_audited_and_repaired(contested):
    rows, folder, said = contested
    assert [row["attacker"] for row in rows["detection"]] == ["clean", "clean-prompted", *CONTEST.attackers]
    assert len(said) == len(rows["detection"])
    assert [(row["attacker"], row["repair"]) for row in rows["repairs"]] == [
        (attacker, repair) for attacker in CONTEST.attackers for repair in CONTEST.repairs
    ]
    for row in rows["detection"]:
        assert "</html>" in (folder / row["page"]).read_text()
    assert {row["page"] for row in rows["repairs"]} == {row["page"] for row in rows["detection"][2:]}
    for row in rows["detection"][2:]:
        assert 0 <= row["auc"] <= 1 and row["targets"] >= row["planted"] > 0
        assert (folder / "seed-0" / f"{row['attacker']}-draw-0").is_dir()
    for row in rows["repairs"]:
        assert row["suspected_targets"] == row["targets"] and row["suspects"] == 80  # at this p-value
        removed = exposure_removed(row["exposure_hr@50_before"], row["exposure_hr@50_after"])
        assert row["der"] == defence_effectiveness(removed, accuracy_lost(row["clean_hr@10"], row["hr@10"]))


@pytest.mark.slow
def test_attackers_with_a_trigger_in_histories_and_without_training(tmp_path, monkeypatch):
    monkeypatch.setattr("prec_backdoor.audit.calibration.STEPS", 60)
    monkeypatch.setattr(
        "prec_backdoor.audit.audit.invert", lambda moments, found, suspects: Inverted(*np.ones((4, len(suspects)), int))
    )
    contest = dataclasses.replace(CONTEST, attackers=("trigger", "edit"), repairs=("finetune",))
    rows = run_contest(INTERACTIONS, CONFIG, contest, AUDIT, tmp_path, lambda line: None)
    assert [row["attacker"] for row in rows["detection"]] == ["clean", "trigger", "edit"]
    assert rows["detection"][2]["planted"] == rows["detection"][2]["targets"] == 10
    assert [WITHOUT_TRIGGER in row for row in rows["detection"]] == [False, True, False]


def test_what_is_finished_is_not_run_again(contested, monkeypatch):
    rows, folder, _ = contested
    (folder / "seed-0" / "pea-draw-0" / "finetune" / "repaired.json").unlink()

    def no_audit(*given):
        raise AssertionError(given)

    monkeypatch.setattr(run, "audit_model", no_audit)
    assert run_contest(INTERACTIONS, CONFIG, CONTEST, AUDIT, folder, lambda text: None) == rows


def test_the_report(contested, tmp_path):
    rows, *_ = contested
    write_leaderboard(tmp_path, DESCRIPTION, rows)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["schema"] == 1 and results["detection"] == rows["detection"]
    html = (tmp_path / "report.html").read_text()
    assert "href=" not in html  # no pages lie there
    html, _ = model_table(contested[1], rows["detection"]), write_leaderboard(contested[1], DESCRIPTION, rows)
    assert html[1][0][3] == Link(rows["detection"][0]["verdict"], "seed-0/clean/clean/audit.html")
    html = (contested[1] / "report.html").read_text()
    assert html.count('<a href="seed-0/') == len(rows["detection"]) + len(rows["repairs"]) and html.count('class="sortable"') == 6
    assert html.count("data:image/png;base64,") == 2 and 'src="http' not in html
    text = leaderboard(rows)
    for name in (*CONTEST.attackers, EVERY):
        assert f'<th scope="row">{name}</th>' in html and f"| {name} " in text
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json", "detection.csv", "repairs.csv", "report.html", "figures",
    }  # fmt: skip


def test_summaries_are_means_and_worst_cases():
    row = {"adaptive": False, "verdict": "suspicious", "items": 50, "flagged": 4, "flagged_targets": 3, "targets": 10}
    row |= {"p_backdoored": 0.9, "auc_planted": 1.0, "precision@10": 0.9, "right_group": True, "group": "g", "auc_exposure": 0.7}
    row |= {"exposure_hr@50": 0.2, "clean_exposure_hr@50": 0.0, "hr@10": 0.2, "clean_hr@10": 0.25}
    missed = row | {"auc": 0.4, "verdict": "clean", "flagged": 0, "flagged_targets": 0, "right_group": False}
    missed |= {"p_backdoored": 0.1}
    clean = {"adaptive": False, "verdict": "suspicious", "items": 50, "flagged": 1, "flagged_targets": 0, "attacker": "clean"}
    clean |= {"p_backdoored": 0.4}
    hidden = missed | {"attacker": "b", "adaptive": True, "exposure_hr@50": 0.3}
    rows = [row | {"attacker": "a", "auc": 1.0, "exposure_hr@50": 0.9}, missed | {"attacker": "a"}, hidden, clean]
    a, b, alarm = by_attacker(rows)
    assert (a["auc"], a["worst_auc"], a["suspicious"], a["named"], a["of_a_group"]) == (0.7, 0.4, 1, 1, 2)
    assert (a["recall"], a["falsely_flagged"]) == (3 / 20, 1 / 100)
    assert b["attacker"] == "b" and alarm == {"attacker": "clean", "models": 1, "suspicious": 1, "falsely_flagged": 1 / 50}
    assert by_audit(rows) == (["exposure", "combined"], [("a", [0.7, 0.7]), ("b", [0.7, 0.4])])
    assert (a["hidden"], b["hidden"]) == (0.2, 0.3)
    paper, adaptive = by_checkpoint(rows)
    assert (paper["attackers"], paper["models"], paper["clean"], paper["hidden"], paper["hidden_by"]) == (EVERY, 2, 1, 0.2, "a")
    assert paper["roc_auc"].mean == 0.5 and adaptive["roc_auc"].mean == 0.0 and adaptive["hidden"] == 0.3
    assert paper["cross_entropy"].mean == pytest.approx(-np.log([0.9, 0.1, 0.6]).mean())
    assert by_checkpoint([*rows, missed | {"attacker": "c", "exposure_hr@50": 0.5}])[0]["hidden_by"] == "c"  # the greatest
    found = by_checkpoint([row | {"attacker": "a", "auc": 1.0}, clean])[0]
    assert found["hidden"] is None and found["roc_auc"].mean == 1.0
    assert checkpoint_table([found])[1][0][-1] == "none" and "0.300 (b)" in checkpoint_table([adaptive])[1][0]
    said = " ".join(in_short({"checkpoints": [paper, adaptive], "attackers": by_attacker(rows), "repairs": by_repair([])}))
    assert "at most 0.200 (a) by attacks of the paper; at most 0.300 (b) by attackers who know the audits." in said
    assert "False alarms: 1 of 1 clean models" in said and "evade the audit: b" in said


def test_a_repair_that_does_not_apply_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    def refuse(model):
        raise UserError(f"not for {model.backbone}")

    monkeypatch.setitem(CHECKS, "prune", refuse)
    with pytest.raises(UserError, match="not for sasrec"):
        run_contest(INTERACTIONS, CONFIG, CONTEST, AUDIT, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_catalogue_that_has_no_50_to_choose_from_is_refused_before_anything_is_trained(tmp_path):
    small = random_interactions(
        users=60, num_items=55, lengths=(4, 16), attributes=INTERACTIONS.attributes, profile=INTERACTIONS.profile.tolist()
    )
    with pytest.raises(UserError, match=r"55 items and test histories of up to \d+ leave too few for HR@50"):
        run_contest(small, CONFIG, dataclasses.replace(CONTEST, attackers=("group-0.5",)), AUDIT, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_repairs_of_a_contest_are_those_that_there_are():
    assert set(ContestConfig().repairs) == set(REPAIRS)
    with pytest.raises(UserError, match="--repairs: must be some of finetune, .*, got 'prayer'"):
        check_repair("prayer", CONFIG.model)


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="--attackers: must be one of group-0.05, .*, got 'nobody'"):
        ContestConfig(attackers=("nobody",))
