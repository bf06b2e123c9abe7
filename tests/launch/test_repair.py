"""launch.repair with an audit written by hand, and launch.evaluate on what comes out."""

import json

import pytest
from commands import DATA, FINETUNING

from prec_backdoor.data.registry import load_dataset
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.storage import checkpoints


@pytest.fixture(scope="module")
def attacked(stages):
    return checkpoints.load(stages / "attacked" / "pretrain")


@pytest.fixture
def audit(attacked, tmp_path):
    """audit(**what differs) -> the folder of an audit of the attacked model that suspects its targets."""
    config = ExperimentConfig.from_flat(attacked.metadata["config"])
    setup = make_setup(load_dataset("synthetic", synthetic_users=60, synthetic_items=80), config, seed=1)
    ids, targets = setup.interactions.item_ids.tolist(), set(setup.targets.tolist())
    items = [{"item": raw, "p_value": 0.001 if code in targets else 0.5} for code, raw in enumerate(ids) if code]

    def write(**changes):
        folder = tmp_path / "audit"
        folder.mkdir(exist_ok=True)
        content = {"schema": 1, "about": {"hash": attacked.metadata["hash"]}, "items": items} | changes
        (folder / "audit.json").write_text(json.dumps(content))
        return folder

    return write


def test_repaired_and_measured(stages, audit, launch, tmp_path):
    checkpoint = f"--checkpoint={stages / 'attacked' / 'pretrain'}"
    out = launch("repair", *DATA, *FINETUNING, checkpoint, f"--audit={audit()}", f"--workdir={tmp_path}")
    assert "\n3 suspects of " in out and str(tmp_path / "repair") in out
    metadata = checkpoints.load(tmp_path / "repair").metadata
    assert metadata["stage"] == "repair"
    assert metadata["parent"] == checkpoints.load(stages / "attacked" / "pretrain").metadata["hash"]
    given = f"--checkpoint={tmp_path / 'repair'}", f"--clean_checkpoint={stages / 'clean' / 'finetune'}"
    launch("evaluate", *DATA, *given, f"--workdir={tmp_path / 'measured'}")
    rows = json.loads((tmp_path / "measured" / "results.json").read_text())["rows"]
    assert {(row["attack"], row["usage"]) for row in rows} == {("clean", "fine_tune"), ("bra", "fine_tune")}


def test_complaints(stages, audit, mistake, tmp_path):
    attacked, workdir = f"--checkpoint={stages / 'attacked' / 'pretrain'}", f"--workdir={tmp_path / 'new'}"

    def complaint(folder, *more):
        return mistake("repair", *DATA, attacked, f"--audit={folder}", workdir, *more)

    assert "audit of another checkpoint (content 0000" in complaint(audit(about={"hash": "0" * 64}))
    assert "no item has a p-value of at most 0.01" in complaint(audit(items=[{"item": "1", "p_value": 0.2}]))
    assert "not the result of an audit" in complaint(audit(items=[{"p_value": 0.2}]))
    assert "No such file" in complaint(tmp_path / "nowhere")
    assert "--repair" in complaint(audit(), "--repair=prayer")
    assert not (tmp_path / "new").exists()


def test_the_leaderboard_says_what_it_does_not_know(mistake, tmp_path):
    message = mistake("audit_benchmark", *DATA, "--attackers=nobody", f"--workdir={tmp_path / 'new'}")
    assert "--attackers: must be one of group-0.05" in message
    assert not (tmp_path / "new").exists()


def test_a_folder_of_another_run_is_refused_before_anything_is_trained(stages, audit, mistake, tmp_path):
    (tmp_path / "repair").mkdir()
    claimed = {"config": {"epochs": 7}, "dataset": {}, "checkpoint": {}, "repair": {"repair": "finetune"}}
    (tmp_path / "repair" / "config.json").write_text(json.dumps(claimed))
    given = (f"--checkpoint={stages / 'attacked' / 'pretrain'}", f"--audit={audit()}", "--repair=distil", f"--workdir={tmp_path}")
    message = mistake("repair", *DATA, *FINETUNING, *given)
    assert "holds another run" in message and "repair repair was 'finetune', now 'distil'" in message
    assert [path.name for path in (tmp_path / "repair").iterdir()] == ["config.json"]
    assert not (tmp_path / "metrics.jsonl").exists()
