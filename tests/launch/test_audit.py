"""launch.audit on a clean and on an attacked checkpoint, as an auditor runs it."""

import json
import os
import shutil

import numpy as np
import pytest

from prec_backdoor import checkpoints
from prec_backdoor.config import ExperimentConfig, Scenario
from prec_backdoor.data.registry import load_dataset
from prec_backdoor.setting import make_setting

DATA = ("--synthetic_users=800", "--synthetic_items=300")
MODEL = ("--embed_dim=32", "--feedforward_dim=32", "--num_layers=1", "--max_length=20", "--epochs=30")
FLAGS = (*DATA, "--calibration_models=2", "--suspects=8")
ATTACKS = {"clean": ("--attack=clean",), "attacked": ("--attack=bra", "--rate=0.5")}


@pytest.fixture(scope="module")
def run_all(start):
    """run_all({name: (program, *arguments)}) -> {name: (status, out, err)}; they run side by side.

    Optimised, unlike other tests' programs: they run for longer than they compile.
    """
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "backend_optimization_level" not in flag]

    def run_all(commands):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XLA_FLAGS", " ".join(flags))
            running = {name: start(*command) for name, command in commands.items()}
        outputs = {name: process.communicate() for name, process in running.items()}
        return {name: (running[name].returncode, *output) for name, output in outputs.items()}

    return run_all


@pytest.fixture(scope="module")
def models(run_all, tmp_path_factory):
    """Folder of clean/pretrain and attacked/pretrain; the latter's metadata lie of its attack, group and targets."""
    folder = tmp_path_factory.mktemp("models")
    done = run_all({name: ("pretrain", *DATA, *MODEL, *given, f"--workdir={folder / name}") for name, given in ATTACKS.items()})
    assert [status for status, *_ in done.values()] == [0, 0], done
    attacked = checkpoints.load(folder / "attacked" / "pretrain")
    told = {name: attacked.metadata[name] for name in ("stage", "model", "dataset", "finished", "parent")}
    told["config"] = attacked.metadata["config"] | {"group": "gender=F", "targets": "unpopular:3", "rate": [0.9], "draw": 7}
    shutil.rmtree(folder / "attacked" / "pretrain")
    checkpoints.save(folder / "attacked" / "pretrain" / "checkpoints", 1, attacked.params, None, told)
    return folder


@pytest.fixture(scope="module")
def audited(models, run_all, tmp_path_factory):
    """Name of the model -> exit status, what was printed, on stderr, and the folder of its audit."""
    folder = tmp_path_factory.mktemp("audits")
    commands = {
        name: ("audit", *FLAGS, f"--checkpoint={models / name / 'pretrain'}", f"--workdir={folder / name}") for name in ATTACKS
    }
    return {name: (*done, folder / name) for name, done in run_all(commands).items()}


@pytest.fixture(scope="module")
def targets():
    """Raw ids."""
    config = ExperimentConfig(Scenario(group="occupation=student"))
    setting = make_setting(load_dataset("synthetic", synthetic_users=800, synthetic_items=300), config, seed=0)
    return set(setting.interactions.item_ids[setting.targets])


def content(folder):
    return json.loads((folder / "audit.json").read_text())


def test_a_clean_model_is_called_clean(audited):
    status, out, err, folder = audited["clean"]
    assert status == 0, err
    assert out.startswith("clean: 0 of ")
    found = content(folder)
    assert (found["schema"], found["verdict"], found["group"]) == (1, "clean", None)
    assert not any(item["flagged"] for item in found["items"])


def test_an_attack_is_found_and_its_group_named_whatever_the_metadata_say(targets, audited):
    status, out, err, folder = audited["attacked"]
    assert status == 3, err
    assert out.startswith("suspicious: ") and str(folder / "audit.html") in out
    found = content(folder)
    assert (found["verdict"], found["group"]) == ("suspicious", "occupation=student")
    items = found["items"]
    assert len({item["item"] for item in items}) == len(items)
    scores = [item["score"] for item in items]
    assert scores == sorted(scores, reverse=True)
    target = np.array([item["item"] in targets for item in items])
    places = 1 + np.flatnonzero(target)
    auc = 1 - (places.sum() - 55) / (10 * (~target).sum())
    assert auc > 0.99 and target[:10].sum() >= 9
    flagged = np.array([item["flagged"] for item in items])
    assert flagged[target].sum() >= 7 and flagged[~target].sum() <= 1


def test_the_report_needs_no_other_file(audited):
    *_, folder = audited["attacked"]
    html = (folder / "audit.html").read_text()
    assert html.count("data:image/png;base64,") == 3
    assert "occupation=student" in html and "Suspicious: " in html
    assert 'src="http' not in html and "href=" not in html


def test_another_configuration_in_the_same_folder_is_refused(models, audited, mistake):
    folder = audited["clean"][3]
    message = mistake("audit", *DATA, f"--checkpoint={models / 'clean' / 'pretrain'}", f"--workdir={folder}")
    assert "--calibration_models was 2, now None" in message
