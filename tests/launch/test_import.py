"""A backdoored model in RecBole's layout: import, audit, repair, export, and what the company's users are then shown."""

import csv
import json
from types import SimpleNamespace
from typing import NamedTuple

import jax
import numpy as np
import pytest
from commands import SIZES
from forks import run_program
from interop.recbole_layout import PARAMETERS, write_recbole

from launch.checkpoint_stage import with_history
from prec_backdoor.interop import read_torch
from prec_backdoor.storage import checkpoints

DATA = ("--synthetic_users=800", "--synthetic_items=300")
MODEL = ("--embed_dim=32", "--feedforward_dim=32", "--num_layers=1", "--max_length=20", "--epochs=30")
RECBOLE = [f"--{name}={value}" for name, value in PARAMETERS.items()]


@pytest.fixture(scope="module")
def run(environment, optimised):
    def run(*command, status=0):
        found, out, err = run_program(command, {**environment, **optimised})
        assert found == status, out + err
        return out

    return run


def provided(run, folder, *flags):
    """The provider's checkpoint, and the folder of its two files: model.pth and ids.txt."""
    run("pretrain", *RECBOLE, *flags, f"--workdir={folder}")
    checkpoint = checkpoints.load(folder / "pretrain")
    write_recbole(folder / "model.pth", checkpoint.params, checkpoint.model.num_layers)
    (folder / "ids.txt").write_text("".join(f"{raw}\n" for raw in checkpoint.vocabulary.items), encoding="utf-8")
    return checkpoint, folder


def import_into(folder, run, provider):
    """The workdir of the import."""
    given = f"--checkpoint={provider / 'model.pth'}", f"--items={provider / 'ids.txt'}", "--num_heads=1"
    assert "RecBole SASRec" in run("import_checkpoint", *given, f"--workdir={folder}")
    return folder


@pytest.fixture(scope="module")
def small(launch, tmp_path_factory):
    """Of a model that has learned nothing."""
    data = ("--synthetic_users=60", "--synthetic_items=80", "--k_core=2")
    return provided(launch, tmp_path_factory.mktemp("small"), *data, *SIZES, "--batch_size=8", "--epochs=1", "--attack=clean")


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    """Of an attacked model."""
    return provided(run, tmp_path_factory.mktemp("provider"), *DATA, *MODEL, "--attack=bra", "--rate=0.5")


@pytest.mark.slow
def test_the_chain(run, trained, tmp_path):
    checkpoint, provider = trained
    theirs = import_into(tmp_path / "company", run, provider)
    targets = set(checkpoint.metadata["targets"])
    imported = f"--checkpoint={theirs / 'imported'}"
    found = checkpoints.load(theirs / "imported")
    before = checkpoint.params | {"items": checkpoint.params["items"].copy()}
    before["items"][0] = 0  # row 0 is padding
    jax.tree.map(np.testing.assert_array_equal, found.params, before)

    settings = "--calibration_models=2", "--level=0.34", "--power_models=0", "--suspects=8"
    given = *DATA, imported, *settings, f"--workdir={tmp_path / 'audit'}"
    out = run("audit", *given, status=3)
    assert "own data" in out and "300 of 300 items (100%)" in out
    items = json.loads((tmp_path / "audit" / "audit.json").read_text())["items"]
    flagged = {item["item"] for item in items if item["flagged"]}
    assert len(flagged & targets) >= 8 and len(flagged - targets) <= 1

    command = next(line for line in out.splitlines() if line.startswith("repair")).split()
    run("repair", *command[command.index("-m") + 2 :])  # as it is printed
    repaired = tmp_path / "audit-repaired" / "repair"
    run("export_checkpoint", f"--checkpoint={repaired}", f"--output={tmp_path / 'repaired.safetensors'}")
    run("import_checkpoint", f"--checkpoint={tmp_path / 'repaired.safetensors'}", f"--workdir={tmp_path / 'again'}")
    assert checkpoints.load(tmp_path / "again" / "imported").metadata["hash"] == checkpoints.load(repaired).metadata["hash"]

    def shown(checkpoint, audit):
        """The share of users' first 50 that are targets, and the rows."""
        path = tmp_path / "lists.csv"
        run("recommend", *DATA, f"--checkpoint={checkpoint}", "--top=50", *audit, f"--output={path}")
        rows = list(csv.DictReader(path.open(encoding="utf-8")))
        return sum(row["item"] in targets for row in rows) / len(rows), rows

    before, rows = shown(theirs / "imported", (f"--explain_audit={tmp_path / 'audit'}",))
    assert {row["item"] for row in rows if row["flagged"] == "True"} == flagged & {row["item"] for row in rows}
    assert shown(repaired, ())[0] < before / 4


def test_one_history(launch, small, mistake, tmp_path):
    checkpoint, provider = small
    theirs, history = import_into(tmp_path / "company", launch, provider), checkpoint.vocabulary.items[:3]
    out = launch("recommend", f"--checkpoint={theirs / 'imported'}", f"--history={','.join(history)}", "--top=5")
    rows = [line.split() for line in out.splitlines()[-5:]]
    assert [row[1] for row in rows] == list("12345") and not {row[2] for row in rows} & set(history)
    scores = [float(row[-1]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    imported = f"--checkpoint={theirs / 'imported'}"
    assert "--history: the model has no item moon" in mistake("recommend", imported, f"--history={history[0]},moon")
    assert "--history: is empty" in mistake("recommend", imported, "--history=")
    said = mistake("recommend", imported, f"--history={history[0]}", "--interactions=events.csv")
    assert "--interactions: with --history no dataset is read; give one of the two" in said
    out = launch("recommend", imported, f"--history={','.join(checkpoint.vocabulary.items)}")
    assert "no item is left to recommend" in out
    said = mistake("recommend", imported)  # synthetic data would stand in for the company's
    assert "--dataset: not given, and the checkpoint is of model.pth; give --interactions=FILE of your own" in said
    said = mistake("recommend", f"--checkpoint={theirs / 'imported/checkpoints/0'}", f"--history={history[0]}")
    assert f"give {theirs / 'imported'}, the folder of the stage" in said
    assert f"no checkpoint there; give {theirs / 'imported'}" in mistake("recommend", f"--checkpoint={theirs}", "--history=1")
    out = launch("evaluate", "--synthetic_users=60", "--synthetic_items=80", imported, f"--workdir={tmp_path / 'measured'}")
    assert "targets      not known: the exposure below is that of one unpopular item" in out
    file = f"--checkpoint={provider / 'model.pth'}"
    assert "is first imported: launch.import_checkpoint" in mistake("recommend", file, "--history=1")


class Run(NamedTuple):
    """Stands for a StageRun."""

    metadata: dict


@pytest.mark.parametrize(
    ("attack", "targets", "aligned", "kept"),
    [
        ("clean", [], True, ({"attack": "bra"}, ["4"])),  # its own configuration says nothing, so that of its parent counts
        ("pea", ["7"], True, (None, ["7"])),  # a new attack on own data
        ("clean", [], False, (None, [])),  # the same dataset: the configuration says what is known
    ],
)
def test_a_stage_on_own_data_keeps_what_is_known_of_an_attack(attack, targets, aligned, kept):
    parent = {"config": {"attack": "clean"}, "attack": {"attack": "bra"}, "targets": ["4"], "repaired": {"repair": "anchor"}}
    opened = SimpleNamespace(checkpoint=SimpleNamespace(metadata=parent), aligned=aligned)
    found = with_history(Run({"config": {"attack": attack}, "targets": targets}), opened).metadata
    assert (found.get("attack"), found["targets"], found["repaired"]) == (*kept, parent["repaired"])


def test_the_writer_writes_what_torch_files_are(small):
    checkpoint, folder = small
    table = read_torch(folder / "model.pth")["state_dict"]["item_embedding.weight"]
    assert (table == checkpoint.params["items"]).all()
