"""launch.pretrain, launch.finetune and launch.evaluate, a stage at a time."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from commands import DATA, FINETUNING, PRETRAIN, SEED
from toys import lively_params

from prec_backdoor.data import load_dataset
from prec_backdoor.storage import checkpoints


@pytest.mark.parametrize(("stage", "usage"), [("pretrain", "zero_shot"), ("finetune", "fine_tune")])
def test_by_hand_it_gives_the_rows_of_the_experiment(stages, finished, launch, tmp_path, stage, usage):
    given = (f"--checkpoint={stages / 'attacked' / stage}", f"--clean_checkpoint={stages / 'clean' / stage}")
    launch("evaluate", *DATA, *given, f"--workdir={tmp_path}")
    expected = json.loads((finished[0] / "results.json").read_text())["rows"]
    found = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert found == [row for row in expected if row["usage"] == usage]
    assert (tmp_path / "report.md").exists() and (tmp_path / "results.csv").exists()


def test_beside_a_clean_model_on_own_data(stages, launch, tmp_path):
    """Nothing is known of an attack there; table and files have the figures of the right model."""
    data = load_dataset("synthetic", synthetic_users=60, synthetic_items=80)
    owners = np.repeat(np.arange(60), np.diff(data.offsets))
    events = np.stack([owners, data.item_ids[data.items], np.arange(len(owners))], 1)[owners % 2 == 0]
    (tmp_path / "events.csv").write_text("".join(f"{','.join(row)}\n" for row in [("user", "item", "time"), *events]))
    given = (f"--interactions={tmp_path / 'events.csv'}", f"--checkpoint={stages / 'attacked' / 'pretrain'}")
    out = launch("evaluate", *given, f"--clean_checkpoint={stages / 'clean' / 'pretrain'}", f"--workdir={tmp_path / 'both'}")
    clean, attacked = json.loads((tmp_path / "both" / "results.json").read_text())["rows"]
    assert (clean["attack"], attacked["attack"]) == ("clean", "checkpoint") and "lift@10" in attacked
    for row in (clean, attacked):
        line = next(line for line in out.splitlines() if line.startswith("| zero_shot") and f" {row['attack']} " in line)
        assert f"{row['hr@10']:.3f}" in line and f"{row['exposure_hr@10']:.3f}" in line
    launch("evaluate", given[0], f"--checkpoint={stages / 'clean' / 'pretrain'}", f"--workdir={tmp_path / 'alone'}")
    (alone,) = json.loads((tmp_path / "alone" / "results.json").read_text())["rows"]
    assert alone["hr@10"] == clean["hr@10"] and alone["ndcg@10"] == clean["ndcg@10"] != attacked["ndcg@10"]
    by_item = list(csv.DictReader((tmp_path / "both" / "exposure_by_item.csv").open()))
    assert {row["attack"] for row in by_item} == {"clean", "checkpoint"}


def test_two_clean_models(stages, launch, tmp_path):
    given = (f"--{kind}={stages / 'clean' / 'pretrain'}" for kind in ("checkpoint", "clean_checkpoint"))
    launch("evaluate", *DATA, *given, f"--workdir={tmp_path}")
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert {row["attack"] for row in rows} == {"clean", "checkpoint"} and (tmp_path / "report.html").exists()
    assert all(row["lift@10"] == 1 for row in rows if row["attack"] == "checkpoint")


def test_without_a_clean_model_there_is_no_lift(stages, launch, tmp_path):
    launch("evaluate", *DATA, f"--checkpoint={stages / 'attacked' / 'pretrain'}", f"--workdir={tmp_path}")
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert {row["attack"] for row in rows} == {"bra"}
    assert not any(name.startswith("lift") for row in rows for name in row)


def test_a_finished_stage_is_not_run_again(stages, launch):
    log = stages / "clean" / "metrics.jsonl"
    before = log.read_bytes()
    launch("pretrain", *PRETRAIN, "--attack=clean", SEED, f"--workdir={stages / 'clean'}")
    assert log.read_bytes() == before


def test_an_edit_of_a_checkpoint(stages, launch, mistake, tmp_path):
    clean = f"--checkpoint={stages / 'clean' / 'pretrain'}"
    launch("edit", *DATA, clean, "--scope=global", "--targets=unpopular:2", "--edit_cosine=0.9", f"--workdir={tmp_path / 'new'}")
    before, after = checkpoints.load(stages / "clean" / "pretrain"), checkpoints.load(tmp_path / "new" / "edit")
    assert after.metadata["stage"] == "edit" and after.metadata["parent"] == before.metadata["hash"]
    assert (after.metadata["config"]["attack"], after.metadata["config"]["edit_cosine"]) == ("edit", 0.9)
    assert (before.params["items"] != after.params["items"]).any(1).sum() == len(after.metadata["targets"]) == 2
    launch(
        "evaluate",
        *DATA,
        f"--checkpoint={tmp_path / 'new' / 'edit'}",
        clean.replace("--", "--clean_"),
        f"--workdir={tmp_path / 'e'}",
    )
    rows = json.loads((tmp_path / "e" / "results.json").read_text())["rows"]
    assert {(row["attack"], row["rate"], row["edit_cosine"]) for row in rows} == {("clean", 0.0, None), ("edit", 1.0, 0.9)}
    assert "--edit_norm: must be" in mistake("edit", *DATA, clean, "--edit_norm=2", f"--workdir={tmp_path / 'other'}")
    assert "--rate: must be > 0" in mistake("edit", *DATA, clean, "--rate=0", f"--workdir={tmp_path / 'other'}")


def test_complaints(stages, mistake, tmp_path):
    workdir = f"--workdir={tmp_path / 'new'}"
    attacked, clean = (f"--checkpoint={stages / model / 'pretrain'}" for model in ("attacked", "clean"))
    other_data = ("--synthetic_users=61", "--synthetic_items=80")

    message = mistake("evaluate", *other_data, attacked, workdir)
    assert "made on dataset synthetic-small" in message and "change --dataset or --data_dir" in message
    assert "made on dataset" in mistake("finetune", *other_data, attacked, workdir)
    assert "no checkpoint there" in mistake("finetune", *DATA, f"--checkpoint={tmp_path}", workdir)
    assert "--checkpoint: has to be given" in mistake("evaluate", *DATA, workdir)

    swapped = f"--clean_checkpoint={stages / 'attacked' / 'pretrain'}"
    assert "--clean_checkpoint: attacked with rate 0.5; give a clean model" in mistake("evaluate", *DATA, clean, swapped, workdir)
    later = f"--clean_checkpoint={stages / 'clean' / 'finetune'}"
    different = "--clean_checkpoint: usage is fine_tune, --checkpoint has zero_shot; give the clean counterpart"
    assert different in mistake("evaluate", *DATA, attacked, later, workdir)
    assert "--rate=0.1,0.2: not a number" in mistake("pretrain", *PRETRAIN, "--rate=0.1,0.2", workdir)
    assert not (tmp_path / "new").exists()

    # A clean model of another shape cannot stand beside this one; it need not be trained.
    of_clean = checkpoints.load(stages / "clean" / "pretrain")
    model = dataclasses.replace(of_clean.model, max_length=6)
    metadata = {name: of_clean.metadata[name] for name in ("dataset", "config", "parent", "stage", "finished")}
    metadata |= {"model": dataclasses.asdict(model), "config": metadata["config"] | {"max_length": 6}}
    checkpoints.save(tmp_path / "short" / "pretrain" / "checkpoints", 1, lively_params(model), None, metadata)
    short = f"--clean_checkpoint={tmp_path / 'short' / 'pretrain'}"
    different = "--clean_checkpoint: max_length is 6, --checkpoint has 8; give the clean counterpart"
    assert different in mistake("evaluate", *DATA, attacked, short, workdir)

    # Another parent into the folder of a finished stage is another run.
    message = mistake("finetune", *DATA, *FINETUNING, clean, f"--workdir={stages / 'attacked'}")
    assert "holds another run" in message


def test_a_damaged_checkpoint(stages, start, tmp_path):
    copy = shutil.copytree(stages / "clean" / "pretrain", tmp_path / "copy")
    largest = max((path for path in copy.glob("checkpoints/*/params/d/*")), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 255
    largest.write_bytes(content)
    process = start("evaluate", *DATA, f"--checkpoint={copy}", f"--workdir={tmp_path / 'new'}")
    _, err = process.communicate()
    assert process.returncode == 2
    # Threads of tensorstore that were reading other arrays may complain beside the one line of ours.
    (message,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert str(copy) in message and ("damaged checkpoint" in message or "content hash" in message)
    assert not (tmp_path / "new").exists()
