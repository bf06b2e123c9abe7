"""launch.repair with an audit written by hand, and launch.evaluate on what comes out."""

import json

import numpy as np
import pytest
from commands import DATA, FINETUNING

from prec_backdoor.data.registry import load_dataset
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.repairs.choice import choose_suspects
from prec_backdoor.repairs.outcome import _change
from prec_backdoor.reporting.headline import share
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
    assert metadata["stage"] == "repair" and metadata["repaired"] == {"repair": "reestimate", "suspects": 3}
    found, page = (tmp_path / name for name in ("repair.json", "repair.html"))
    content = json.loads(found.read_text())
    assert content["about"]["repaired_hash"] == metadata["hash"] and content["users"] > 10
    shown = content["exposure"]["hr@10"]
    assert shown["after"] < shown["before"] and shown["difference"] == pytest.approx(shown["after"] - shown["before"])
    means = [sum(each[when] for each in content["suspects"]) / 3 for when in ("before", "after")]
    assert means == pytest.approx([shown["before"], shown["after"]], abs=0.02)  # users have a suspect in their history
    told = f"3 suspects shown to {share(shown['before'])} of the pairs of a user and a suspect before"
    assert told in out and told in page.read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"--checkpoint={tmp_path / 'repair'} --workdir={tmp_path}-audit" in page.read_text().replace("</span> <span>", " ")
    assert metadata["parent"] == checkpoints.load(stages / "attacked" / "pretrain").metadata["hash"]
    given = f"--checkpoint={tmp_path / 'repair'}", f"--clean_checkpoint={stages / 'clean' / 'finetune'}"
    launch("evaluate", *DATA, *given, f"--workdir={tmp_path / 'measured'}")
    rows = json.loads((tmp_path / "measured" / "results.json").read_text())["rows"]
    assert {(row["attack"], row["usage"]) for row in rows} == {("clean", "fine_tune"), ("bra", "fine_tune")}
    assert {(row["attack"], row.get("repair")) for row in rows} == {("clean", None), ("bra", "reestimate")}
    assert "<b>bra group 0.5, repaired (reestimate)</b>" in (tmp_path / "measured" / "report.html").read_text()


def test_why_these_suspects(attacked, audit):
    def reason(level, flagged, **changes):
        number = 0 if flagged is None else flagged
        listed = [{"item": raw, "p_value": 0.001 * place, "flagged": place < number} for place, raw in enumerate(ids)]
        return choose_suspects(audit(items=listed, **changes), data, attacked.metadata["hash"], level).reason()

    data = load_dataset("synthetic", synthetic_users=60, synthetic_items=80)
    ids = data.item_ids[1:].tolist()
    assert reason(0.0195, 6, verdict="suspicious").startswith(
        "The audit flagged 6 of them; the other 14 have a p-value of at most"
    )
    assert "(2 of 80 items have such a p-value by chance). To repair a clean item costs little" in reason(0.0195, 6)
    assert reason(0.0195, 20, verdict="suspicious") == "They are the 20 items that the audit flagged."
    clean = reason(0.0195, None, verdict="clean")
    assert clean.startswith(
        "The audit's verdict is clean: no items flagged. The 20 most unusual items (p-value of at most 0.0195;"
    )
    assert clean.endswith("are repaired as a precaution; nothing needs it.")


def test_what_a_repair_changes_by_hand():
    before, after = (np.array(hits, bool) for hits in ([1, 1, 1, 0, 0], [0, 0, 1, 1, 0]))
    change = _change(before, after)
    assert change[:2] == (0.6, 0.4) and change.difference.mean == pytest.approx(-0.2)
    assert -1 < change.difference.low < -0.2 < 0 < change.difference.high
    same = _change(before, before)
    assert same.difference.mean == 0 and same.difference.low == pytest.approx(-same.difference.high)


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
