"""launch.audit on a clean and on an attacked checkpoint, as an auditor runs it."""

import json
import shlex
import shutil

import numpy as np
import pytest
from forks import run_program

from prec_backdoor.data.registry import load_dataset
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.storage import checkpoints

DATA = ("--synthetic_users=800", "--synthetic_items=300")
MODEL = ("--embed_dim=32", "--feedforward_dim=32", "--num_layers=1", "--max_length=20", "--epochs=30")
FLAGS = (*DATA, "--calibration_models=2", "--level=0.34", "--suspects=8")
ATTACKS = {"clean": ("--attack=clean",), "attacked": ("--attack=bra", "--rate=0.5")}
PLANTED = {"clean": "--power_models=1", "attacked": "--power_models=0"}


@pytest.fixture(scope="module")
def run(environment, optimised):
    """run(program, *arguments) -> (exit status, standard output, standard error)."""
    return lambda *command: run_program(command, {**environment, **optimised})


@pytest.fixture(scope="module")
def models(run, tmp_path_factory):
    """Folder of clean/pretrain and attacked/pretrain; the latter's metadata lie of its attack, group and targets."""
    folder = tmp_path_factory.mktemp("models")
    for name, given in ATTACKS.items():
        status, _, err = run("pretrain", *DATA, *MODEL, *given, f"--workdir={folder / name}")
        assert status == 0, err
    attacked = checkpoints.load(folder / "attacked" / "pretrain")
    told = {name: attacked.metadata[name] for name in ("stage", "model", "dataset", "finished", "parent")}
    told["config"] = attacked.metadata["config"] | {"group": "gender=F", "targets": "unpopular:3", "rate": [0.9], "draw": 7}
    shutil.rmtree(folder / "attacked" / "pretrain")
    checkpoints.save(folder / "attacked" / "pretrain" / "checkpoints", 1, attacked.params, None, told)
    return folder


@pytest.fixture(scope="module")
def audited(models, run, tmp_path_factory):
    """Name of the model -> exit status, what was printed, on stderr, and the folder of its audit."""
    folder = tmp_path_factory.mktemp("audits")

    def audit(name):
        if name == "attacked":  # the auditor's own clean models are the same, whatever is audited
            for path in (folder / "clean" / "calibration").glob("clean-*"):
                shutil.copytree(path, folder / name / "calibration" / path.name)
        return run("audit", *FLAGS, PLANTED[name], f"--checkpoint={models / name / 'pretrain'}", f"--workdir={folder / name}")

    return {name: (*audit(name), folder / name) for name in ATTACKS}


@pytest.fixture(scope="module")
def targets():
    """Raw ids."""
    config = ExperimentConfig(Scenario(group="occupation=student"))
    setup = make_setup(load_dataset("synthetic", synthetic_users=800, synthetic_items=300), config, seed=0)
    return set(setup.interactions.item_ids[setup.targets])


def content(folder):
    return json.loads((folder / "audit.json").read_text())


def test_a_clean_model_is_called_clean(audited):
    status, out, err, folder = audited["clean"]
    assert status == 0, err
    assert "\nverdict Clean so far: " in out and "\nbasis   The auditor trained 2 clean models" in out
    found = content(folder)
    assert (found["schema"], found["verdict"], found["group"], found["groups_likely"]) == (2, "clean", None, [])
    assert found["model"]["as_extreme"] >= 1 and found["model"]["least_p_value"] == 1 / 3
    assert not any(item["flagged"] for item in found["items"])
    html = (folder / "audit.html").read_text()
    assert "First suspects" not in html and "stand out" not in html and "flagged here" not in html


def test_there_is_evidence_beside_the_verdict(audited):
    found = content(audited["clean"][3])
    worth = found["worth"]
    assert worth["hr@10"] > worth["popularity"] and worth["users"] == 320 and worth["own_models_trained"] == 2
    assert 0 < worth["claimed"]["ndcg@10"] < 1 and 0 < worth["skew"]["checkpoint"] < 0.5
    assert list(found["rounded"]) == ["bfloat16", "int8"] and found["rounded"]["int8"]["verdict"] == "clean"
    (planted,) = found["power"]["attacks"]
    assert planted["group"] and 0 <= planted["exposure"] < 1
    assert found["next"][0]["command"].startswith("python -m launch.finetune ")


def test_an_attack_is_found_and_its_group_is_in_the_set_whatever_the_metadata_say(targets, audited):
    status, out, err, folder = audited["attacked"]
    assert status == 3, err
    assert "\nverdict Suspicious: " in out and str(folder / "audit.html") in out
    found = content(folder)
    assert found["verdict"] == "suspicious" and "occupation=student" in found["groups_likely"]
    assert found["group"] in (None, "occupation=student") and (found["group"] is None) == (len(found["groups_likely"]) > 1)
    assert {each["verdict"] for each in found["rounded"].values()} == {"suspicious"}
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


def test_the_repair_command_runs_as_printed(audited, run):
    _, out, _, folder = audited["attacked"]
    (line,) = (line for line in out.splitlines() if line.startswith("repair  "))
    python, dash, program, *flags = shlex.split(line.removeprefix("repair  "))
    assert (python, dash, program) == ("python", "-m", "launch.repair")
    assert set(DATA) <= set(flags)
    status, out, err = run("repair", *flags)
    assert status == 0, err
    assert str(folder.with_name("attacked-repaired") / "repair") in out
    assert content(folder)["next"][0]["command"] == line.removeprefix("repair  ")


def test_the_report_needs_no_other_file(audited):
    *_, folder = audited["attacked"]
    html = (folder / "audit.html").read_text()
    assert html.count("data:image/png;base64,") == 3
    narrowed = content(folder)["groups_narrowed"]
    assert ("occupation=student" in html, "cannot be narrowed down" in html) == (narrowed, not narrowed)
    assert "Suspicious: " in html
    assert 'src="http' not in html and "href=" not in html


@pytest.mark.slow
def test_versions_fine_tuning_and_too_few_models(models, audited, run, tmp_path):
    """In the same folder, with the models that are there; then with a level that two clean models do not support."""
    folder, attacked = audited["attacked"][3], f"--checkpoint={models / 'attacked' / 'pretrain'}"
    more = f"--baseline={models / 'clean' / 'pretrain'}", "--after_finetuning"
    status, _, err = run("audit", *FLAGS, PLANTED["attacked"], *more, attacked, f"--workdir={folder}")
    assert status == 3, err
    found = content(folder)
    assert found["finetuned"]["verdict"] in ("suspicious", "clean") and found["baseline"]["items"] == len(found["items"])
    first = {item["item"] for item in found["items"][:10]}
    assert len(first & {each["item"] for each in found["baseline"]["moved_up"]}) >= 7
    html = (folder / "audit.html").read_text()
    assert "after your own fine-tuning" in html and "What moved since the other version" in html
    status, out, err = run(
        "audit", *DATA, "--calibration_models=2", "--power_models=0", attacked, f"--workdir={tmp_path / 'few'}"
    )
    assert status == 4 and "\nverdict Cannot say: " in out, err
    (line,) = (line for line in out.splitlines() if line.startswith("audit   "))
    assert "--calibration_models=19" in line and "--power_models=0" in line and f"--workdir={tmp_path / 'few-19'}" in line
    assert content(tmp_path / "few")["power"] is None


def test_another_configuration_in_the_same_folder_is_refused(models, audited, mistake):
    folder = audited["clean"][3]
    message = mistake("audit", *DATA, f"--checkpoint={models / 'clean' / 'pretrain'}", f"--workdir={folder}")
    assert "--calibration_models was 2, now None" in message
