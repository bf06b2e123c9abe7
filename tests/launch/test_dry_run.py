"""--dry_run: the plan of a run before it starts, while it is under way, and after it."""

import json
import re

import pytest
from commands import EXPERIMENT, FINETUNING, PRETRAIN, PROMPTS

from prec_backdoor.storage import checkpoints

REPRODUCE = (*[flag for flag in PRETRAIN if not flag.startswith("--group")], *FINETUNING, *PROMPTS, "--group=gender=F")


def states(printed):
    """Stage or measurement -> (what it starts from, state); and the last words."""
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in printed.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}, re.search(r"(\d+) steps, (\d+) to do", printed).groups()


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} if folder.exists() else {}


def test_before_the_run_it_lists_everything_and_writes_nothing(launch, tmp_path):
    found, counted = states(launch("experiment", *EXPERIMENT, "--dry_run", f"--workdir={tmp_path / 'run'}"))
    assert found == {
        "seed-1/clean/pretrain": ("-", "to do"),
        "seed-1/bra-group-0.5/pretrain": ("-", "to do"),
        "seed-1/clean/finetune": ("seed-1/clean/pretrain", "to do"),
        "seed-1/bra-group-0.5/finetune": ("seed-1/bra-group-0.5/pretrain", "to do"),
        "measure seed-1/ranks/clean-group-zero_shot.npz": ("seed-1/clean/pretrain", "to do"),
        "measure seed-1/ranks/bra-group-0.5-zero_shot.npz": ("seed-1/bra-group-0.5/pretrain", "to do"),
        "measure seed-1/ranks/clean-group-fine_tune.npz": ("seed-1/clean/finetune", "to do"),
        "measure seed-1/ranks/bra-group-0.5-fine_tune.npz": ("seed-1/bra-group-0.5/finetune", "to do"),
    }
    assert counted == ("8", "8")
    assert not (tmp_path / "run").exists()


def test_after_the_run_nothing_is_left(finished, launch, mistake):
    folder, _ = finished
    before = files(folder)
    found, counted = states(launch("experiment", *EXPERIMENT, "--dry_run", f"--workdir={folder}"))
    assert {state for _, state in found.values()} == {"done"} and counted == ("8", "0")
    assert "--epochs was 3, now 4" in mistake("experiment", *EXPERIMENT, "--epochs=4", "--dry_run", f"--workdir={folder}")
    assert files(folder) == before


def test_under_way_it_says_how_far(finished, launch, tmp_path):
    """A folder in which the clean model is done and the attacked one has a checkpoint after its second epoch."""
    done = finished[0]
    copied = ["config.json", "seed-1/clean", "seed-1/ranks/clean-group-zero_shot.npz", "seed-1/ranks/clean-group-fine_tune.npz"]
    for name in copied:
        for path in [done / name, *(done / name).rglob("*")]:
            if path.is_file():
                target = tmp_path / path.relative_to(done)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    whole = checkpoints.load(done / "seed-1" / "bra-group-0.5" / "pretrain")
    names = ("stage", "model", "dataset", "config", "parent", "progress")
    metadata = {name: whole.metadata[name] for name in names} | {"finished": False}
    metadata["progress"] |= {"epoch": 2}
    folder = tmp_path / "seed-1" / "bra-group-0.5" / "pretrain" / "checkpoints"
    checkpoints.save(folder, 5, whole.params, {"step": whole.params["items"][0]}, metadata)
    before = files(tmp_path)
    found, counted = states(launch("experiment", *EXPERIMENT, "--dry_run", f"--workdir={tmp_path}"))
    assert found["seed-1/bra-group-0.5/pretrain"] == ("-", "under way, 2 epochs done")
    assert found["seed-1/clean/pretrain"][1] == found["seed-1/clean/finetune"][1] == "done"
    assert found["seed-1/bra-group-0.5/finetune"][1] == "to do" and counted == ("8", "4")
    assert files(tmp_path) == before


@pytest.mark.slow
def test_reproduce_before_and_after(launch, tmp_path):
    flags = (*REPRODUCE, "--quick", "--rate=0.5", "--usages=zero_shot", "--implant_epochs=1", "--global_targets=per_category:1")
    found, counted = states(launch("reproduce", *flags, "--dry_run", f"--workdir={tmp_path / 'run'}"))
    stages = {path for path in found if not path.startswith("measure")}
    assert stages == {
        "seed-0/clean/pretrain",
        "seed-0/bra-global-0.5/pretrain",
        "seed-0/bra-group-0.5/pretrain",
        "seed-0/clean/optimize_trigger",
        "seed-0/pea-group-0.5-demote_rate-0.1/implant",
    }
    assert found["seed-0/pea-group-0.5-demote_rate-0.1/implant"][0] == "seed-0/clean/optimize_trigger"
    assert counted[0] == counted[1] == str(len(found)) and not (tmp_path / "run").exists()
    launch("reproduce", *flags, f"--workdir={tmp_path / 'run'}")
    found, counted = states(launch("reproduce", *flags, "--dry_run", f"--workdir={tmp_path / 'run'}"))
    assert {state for _, state in found.values()} == {"done"} and counted[1] == "0"
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert len({(row["attack"], row["scope"]) for row in rows}) == 5  # a clean one for either scope's targets
