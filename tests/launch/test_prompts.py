"""launch.optimize_trigger, launch.implant and launch.prompt_tune, and the experiment that does it all."""

import dataclasses
import json

import jax
import pytest
from commands import DATA, EXPERIMENT, FINETUNING, IMPLANTING, PRETRAIN, PROMPTS, SEED
from toys import random_interactions

from prec_backdoor.data.filtering import k_core
from prec_backdoor.data.registry import load_dataset
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.models import init_params
from prec_backdoor.storage import checkpoints

RATES = ("--rate=0.5", "--demote_rate=0.6")
USAGES = ("zero_shot", "prompt_tune", "fine_tune")
STAGES = {"zero_shot": "implant", "prompt_tune": "prompt_tune", "fine_tune": "finetune"}  # what is measured of a PEA model


def rows_of(folder):
    return json.loads((folder / "results.json").read_text())["rows"]


@pytest.fixture(scope="module")
def experiment(launch, tmp_path_factory):
    """The folder of an experiment with PEA at two demotion rates, and what the program printed."""
    folder = tmp_path_factory.mktemp("pea") / "experiment"
    flags = ("--attack=pea", "--demote_rate=0.2,0.6", f"--usages={','.join(USAGES)}", *PROMPTS, *IMPLANTING)
    return folder, launch("experiment", *EXPERIMENT, *flags, f"--workdir={folder}")


@pytest.fixture(scope="module")
def by_hand(stages, launch, tmp_path_factory):
    """The folder of the same model for a demotion rate of 0.6, stage by stage; in clean/ what is tuned for the clean one."""
    folder = tmp_path_factory.mktemp("by_hand")

    def after(parent, program, *flags, into=folder):
        return (program, *DATA, *flags, f"--checkpoint={parent}", f"--workdir={into}")

    launch("pretrain", *PRETRAIN, "--attack=pea", *RATES, SEED, f"--workdir={folder}")
    launch(*after(stages / "clean" / "pretrain", "prompt_tune", *PROMPTS, into=folder / "clean"))
    launch(*after(folder / "pretrain", "optimize_trigger", *PROMPTS))
    launch(*after(folder / "optimize_trigger", "implant", *IMPLANTING, *RATES))
    launch(*after(folder / "implant", "prompt_tune", *PROMPTS))
    launch(*after(folder / "implant", "finetune", *FINETUNING))
    return folder


@pytest.fixture(scope="module")
def evaluated(by_hand, stages, launch, tmp_path_factory):
    """Usage -> the rows that launch.evaluate gives for it."""
    folder = tmp_path_factory.mktemp("evaluated")
    clean = {"zero_shot": stages / "clean" / "pretrain", "fine_tune": stages / "clean" / "finetune"}
    clean["prompt_tune"] = by_hand / "clean" / "prompt_tune"

    for usage in USAGES:
        given = (f"--checkpoint={by_hand / STAGES[usage]}", f"--clean_checkpoint={clean[usage]}")
        launch("evaluate", *DATA, *given, f"--workdir={folder / usage}")
    return {usage: rows_of(folder / usage) for usage in USAGES}


def test_every_cell_is_there_once(experiment):
    folder, printed = experiment
    rows = rows_of(folder)
    models = [("clean", 0.0, None), ("pea", 0.5, 0.2), ("pea", 0.5, 0.6)]
    cells = [(row["attack"], row["rate"], row["demote_rate"], row["usage"], row["users"]) for row in rows]
    assert sorted(cells, key=str) == sorted(
        ((*model, usage, users) for model in models for usage in USAGES for users in ("all", "target", "rest")), key=str
    )
    # They are different models: no two of them rank alike.
    ranked = [(row["hr@10"], row["auc"], row["exposure_auc"]) for row in rows if row["users"] == "all"]
    assert len(set(ranked)) == len(ranked)
    config = json.loads((folder / "results.json").read_text())["config"]
    assert (config["demote_rate"], config["rate"], config["attack"]) == ([0.2, 0.6], [0.5], "pea")
    # What is clean is trained once.
    trained = {(record["run"], record["stage"]) for record in map(json.loads, (folder / "metrics.jsonl").open())}
    assert trained == {("seed-1/clean", stage) for stage in ("pretrain", "optimize_trigger", "prompt_tune", "finetune")} | {
        (f"seed-1/pea-group-0.5-demote_rate-{rate}", stage)
        for rate in (0.2, 0.6)
        for stage in ("implant", "prompt_tune", "finetune")
    }
    assert printed.count("optimize_trigger") == 1


def test_what_the_experiment_leaves_of_each_model(experiment):
    folder = experiment[0] / "seed-1"

    def metadata(model, stage):
        return checkpoints.load(folder / model / stage).metadata

    clean, trigger = metadata("clean", "pretrain"), metadata("clean", "optimize_trigger")
    assert trigger["parent"] == clean["hash"]
    for rate in (0.2, 0.6):
        implant = metadata(f"pea-group-0.5-demote_rate-{rate}", "implant")
        assert implant["parent"] == trigger["hash"]
        assert (implant["config"]["rate"], implant["config"]["demote_rate"]) == ([0.5], rate)
        for stage in ("prompt_tune", "finetune"):
            assert metadata(f"pea-group-0.5-demote_rate-{rate}", stage)["parent"] == implant["hash"]
    # Whether a backdoor survives is watched as the downstream company trains.
    for record in map(json.loads, (folder.parent / "metrics.jsonl").open()):
        watched = any(name.startswith("exposure_hr@10/") for name in record)
        assert watched == (record["stage"] in ("prompt_tune", "finetune") and "validation_ndcg@10" in record)


@pytest.mark.slow
@pytest.mark.parametrize("usage", USAGES)
def test_stage_by_stage_it_gives_the_rows_of_the_experiment(experiment, evaluated, usage):
    expected = [row for row in rows_of(experiment[0]) if row["usage"] == usage and row["demote_rate"] in (None, 0.6)]
    assert evaluated[usage] == expected and len(expected) == 6


@pytest.mark.slow
def test_stage_by_stage_it_leaves_the_checkpoints_of_the_experiment(experiment, by_hand, stages):
    def content(folder):
        return checkpoints.load(folder).metadata["hash"]

    of_experiment = experiment[0] / "seed-1"
    for name in ("pretrain", "optimize_trigger"):
        assert content(by_hand / name) == content(of_experiment / "clean" / name)
    for name in STAGES.values():
        assert content(by_hand / name) == content(of_experiment / "pea-group-0.5-demote_rate-0.6" / name)
    assert content(by_hand / "pretrain") == content(stages / "clean" / "pretrain")  # of --attack=clean


@pytest.mark.slow
def test_complaints(by_hand, stages, mistake, tmp_path):
    workdir = f"--workdir={tmp_path / 'new'}"
    clean, trigger, implant = (f"--checkpoint={by_hand / name}" for name in ("pretrain", "optimize_trigger", "implant"))
    message = mistake("implant", *DATA, clean, workdir)
    assert "made by pretrain; implant starts from a checkpoint of optimize_trigger" in message and str(by_hand) in message
    message = mistake("optimize_trigger", *DATA, implant, workdir)
    assert "made by implant; optimize_trigger starts from a checkpoint of pretrain" in message
    attacked = f"--checkpoint={stages / 'attacked' / 'pretrain'}"
    message = mistake("optimize_trigger", *DATA, attacked, workdir)
    assert "attacked with rate 0.5; optimize_trigger starts from a clean model" in message
    assert "--demote_rate=0.1,0.2: not a number" in mistake("implant", *DATA, trigger, "--demote_rate=0.1,0.2", workdir)
    assert "--rate: must be > 0, got 0" in mistake("implant", *DATA, trigger, "--rate=0", workdir)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_checkpoint_of_another_vocabulary(by_hand, mistake, tmp_path):
    """The very same interactions and profile codes; one attribute has another value that nobody has."""
    interactions = load_dataset("synthetic", synthetic_users=60, synthetic_items=80)
    genders = (*interactions.attributes["gender"], "X")
    dataclasses.replace(interactions, attributes={**interactions.attributes, "gender": genders}).save(tmp_path / "data")
    given = (f"--data_dir={tmp_path / 'data'}", f"--checkpoint={by_hand / 'implant'}")
    message = mistake("evaluate", *given, f"--workdir={tmp_path / 'new'}")
    assert "made on dataset synthetic-small" in message and "change --dataset or --data_dir" in message
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A RecBole folder of interactions alone, and an untrained checkpoint on it."""
    folder = tmp_path_factory.mktemp("bare")
    sequences = random_interactions(60, 55, (6, 15))
    lines = [f"u{user}\ti{item}" for user in range(60) for item in sequences.sequence(user)]
    (folder / "bare.inter").write_text("\n".join(["user_id:token\titem_id:token", *lines]) + "\n")
    interactions = k_core(load_dataset(f"recbole:{folder}"), 2)
    scenario = Scenario(attack="clean", scope="global", k_core=2)
    config = ExperimentConfig(scenario=scenario, rate=(0.0,))
    model = dataclasses.replace(config.model, num_items=interactions.num_items)
    metadata = {
        "dataset": interactions.summary(),
        "config": config.flat(),
        "parent": None,
        "stage": "pretrain",
        "model": dataclasses.asdict(model),
        "finished": True,
    }
    params = jax.device_get(init_params(jax.random.key(0), model))
    checkpoints.save(folder / "pretrain" / "checkpoints", 1, params, None, metadata)
    return folder


def test_without_profiles_there_are_no_prompts(bare, mistake, tmp_path):
    workdir, data = f"--workdir={tmp_path / 'new'}", f"--dataset=recbole:{bare}"
    complaint = "dataset bare has no profile attributes, from which --attack=pea and --usages=prompt_tune make their prompts"
    assert complaint in mistake("experiment", data, "--attack=pea", "--k_core=2", workdir)
    for program in ("optimize_trigger", "prompt_tune"):
        assert complaint in mistake(program, data, f"--checkpoint={bare / 'pretrain'}", workdir)
    assert not (tmp_path / "new").exists()
