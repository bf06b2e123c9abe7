"""launch.repair with an audit written by hand, and launch.evaluate on what comes out."""

import json
import shlex

import numpy as np
import pytest
from absl import flags
from commands import DATA, FINETUNING

from launch import app, repair
from prec_backdoor.data.registry import load_dataset
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.repairs.choice import choose_suspects, no_suspects
from prec_backdoor.repairs.outcome import _change, in_short, still_working, write_outcome
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
    items = [
        {"item": raw, "p_value": 0.001 if code in targets else 0.5, "flagged": False} for code, raw in enumerate(ids) if code
    ]

    def write(**changes):
        folder = tmp_path / "audit"
        folder.mkdir(exist_ok=True)
        content = {"schema": 1, "about": {"hash": attacked.metadata["hash"]}, "items": items} | changes
        (folder / "audit.json").write_text(json.dumps(content))
        return folder

    return write


def test_repaired_and_measured(stages, audit, launch, tmp_path):
    checkpoint = f"--checkpoint={stages / 'attacked' / 'pretrain'}"
    targets = checkpoints.load(stages / "attacked" / "pretrain").metadata["targets"]
    last_items = [{"item": "7", "p_value": p_value, "shown": [*targets, "7", "none"]} for p_value in (0.001, 0.5)]
    given = checkpoint, f"--audit={audit(last_items=last_items)}"
    out = launch("repair", *DATA, *FINETUNING, *given, f"--workdir={tmp_path}")
    assert "\n4 suspects of " in out and str(tmp_path / "repair") in out
    metadata = checkpoints.load(tmp_path / "repair").metadata
    assert metadata["stage"] == "repair" and metadata["repaired"] == {"repair": "reestimate", "suspects": 4}
    found, page = (tmp_path / name for name in ("repair.json", "repair.html"))
    content = json.loads(found.read_text())
    assert content["about"]["repaired_hash"] == metadata["hash"] and content["users"] > 10
    shown = content["exposure"]["hr@10"]
    assert shown["after"] < shown["before"] and shown["difference"] == pytest.approx(shown["after"] - shown["before"])
    means = [sum(each[when] for each in content["suspects"]) / 4 for when in ("before", "after")]
    assert means == pytest.approx([shown["before"], shown["after"]], abs=0.02)  # users have a suspect in their history
    told = f"4 suspects shown to {share(shown['before'])} of the pairs of a user and a suspect before"
    assert told in out and told in page.read_text().replace("\N{NO-BREAK SPACE}", " ")
    (trigger,) = content["triggers"]
    assert trigger["item"] == "7" and [each["item"] for each in trigger["shown"]] == targets
    told = f"the 3 items that it calls up are shown to {share(trigger['with']['before'])} of the pairs of a user and such an item"
    assert told in out and told in page.read_text().replace("\N{NO-BREAK SPACE}", " ") and "<h2>Triggers</h2>" in page.read_text()
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
    none = "The audit flagged none of them; 10 have a p-value of at most 0.0095 (1 of 80 items has such a p-value by chance). To"
    assert reason(0.0095, None, verdict="cannot say").startswith(none)
    assert reason(0.0195, 20, verdict="suspicious") == "They are the 20 items that the audit flagged."
    assert reason(0.0195, 22) == "They are 20 of the 22 items that the audit flagged; --p_value takes more of them."
    assert reason(0, 1) == "It is the item that the audit flagged."
    assert reason(0, 2) == "It is one of the 2 items that the audit flagged; --p_value takes more of them."
    assert reason(0.001, 1).startswith(
        "The audit flagged 1 of them; the other 1 has a p-value of at most 0.001 (0 of 80 items have"
    )
    assert reason(0, None).startswith("The audit flagged none of them; 1 has a p-value of at most 0")
    assert "flagged. The most unusual item (p-value of at most 0; 0 of 80 items have such a p-value by chance) is repaired" in (
        reason(0, None, verdict="clean")
    )
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


def test_a_repair_that_needs_no_suspects_needs_no_audit(stages, launch, mistake, tmp_path):
    given = *DATA, *FINETUNING, f"--checkpoint={stages / 'attacked' / 'pretrain'}", f"--workdir={tmp_path / 'new'}"
    command = f"python -m launch.audit {' '.join(DATA)} {given[-2]} --workdir={tmp_path / 'new-audit'}"
    said = f"--audit: --repair=reestimate needs the suspects of an audit: {command}; without one, take finetune, prune, anchor"
    assert mistake("repair", *given) == f"error: {said}\n" and not (tmp_path / "new").exists()
    out = launch("repair", *given, "--repair=finetune")
    assert "No audit was given" in out and "\naccuracy HR@10 0." in out and "suspect before" not in out
    content = json.loads((tmp_path / "new" / "repair.json").read_text())
    assert content["suspects"] == content["triggers"] == [] and content["exposure"] == {} and content["about"]["audit"] is None
    page = (tmp_path / "new" / "repair.html").read_text()
    assert "nothing is measured on" in page and "<h2>Suspects</h2>" not in page and "<h2>Triggers</h2>" not in page


def test_what_to_do_where_a_trigger_still_works(monkeypatch, tmp_path):
    def parsed(*arguments):
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        repair.define_flags()
        app.define_common_flags()
        values(["repair", *arguments])

    given = "--dataset=synthetic", "--checkpoint=a/pretrain", "--audit=b", "--p_value=0.05", "--finetune_epochs=1"
    parsed(*given, "--repair=anchor", "--workdir=c")
    (command,) = repair.repair_again().values()
    assert set(shlex.split(command)[2:]) == {"launch.repair", *given, "--repair=reestimate", "--workdir=c-reestimate"}
    parsed(*given, "--workdir=c")
    assert "--repair=distil --workdir=c-distil" in next(iter(repair.repair_again().values()))
    change = {"before": 0.5, "after": 0.4, "difference": -0.1, "interval": [-0.2, 0.0]}
    item = {"item": "7", "title": " Seven\n(1995) "}
    trigger = {**item, "shown": [item], "with": change, "without": change, "works": True}
    outcome = {"users": 9, "accuracy": {"hr@10": change}, "exposure": {"hr@10": change}, "suspects": [], "triggers": [trigger]}
    content = write_outcome(tmp_path, "anchor", no_suspects(0.01), outcome, {"checkpoint": "a"}, repair.repair_again())
    said = "The trigger still works: once a history ends with Seven (1995) (40.0 %), the same items still come up"
    assert still_working(content) == said and in_short(content).startswith("once a history ends with Seven (1995), the item that")
    page = (tmp_path / "repair.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"<b>{said}.</b>" in page and "--repair=distil" in page and "None of them works" not in page
    clean = still_working(content | {"verdict_of_audit": "clean"})
    assert clean.startswith("The audit's verdict is clean; if there is a trigger nevertheless, it still works: once a history")
    trigger["works"] = False
    assert still_working(content) == ""


def test_complaints(stages, audit, mistake, tmp_path):
    attacked, workdir = f"--checkpoint={stages / 'attacked' / 'pretrain'}", f"--workdir={tmp_path / 'new'}"

    def complaint(folder, *more):
        return mistake("repair", *DATA, attacked, f"--audit={folder}", workdir, *more)

    assert "audit of another checkpoint (content 0000" in complaint(audit(about={"hash": "0" * 64}))
    assert "no item has a p-value of at most 0.01" in complaint(audit(items=[{"item": "1", "p_value": 0.2, "flagged": False}]))
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
