import dataclasses
import json
import math

import pytest

from prec_backdoor.attacks import ATTACKS, attack_parameters, clean, implant, replace_in_group
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.models import ModelConfig, backbone_parameters
from prec_backdoor.train.config import TrainConfig

CONFIG = ExperimentConfig(
    scenario=Scenario(
        attack="pea",
        group="gender=F",
        targets="ids:3,4",
        draw=2,
        evade=("weights", "exposure"),
        k_core=3,
        windows="all",
        parameters={"demote_rate": 0.25, "evade_strength": 0.5},
    ),
    rate=(0.5, 0.0, 0.2),
    usages=("prompt_tune",),
    seeds=(4, 2),
    model=ModelConfig(num_items=0, embed_dim=24, num_heads=3, dropout=0.3),
    pretrain=TrainConfig(loss="ce", epochs=7, learning_rate=0.3, patience=5),
    prompt_length=4,
    prompt_epochs=11,
    prompt_learning_rate=0.1,
    implant_epochs=12,
    implant_learning_rate=0.2,
    finetune_epochs=13,
    finetune_learning_rate=0.4,
)


def test_flat_as_flags_are_and_back():
    flat = json.loads(json.dumps(CONFIG.flat()))
    scenario = dataclasses.replace(CONFIG.scenario, parameters=CONFIG.scenario.all_parameters())
    whole = dataclasses.replace(CONFIG, scenario=scenario)
    assert ExperimentConfig.from_flat(flat) == whole
    assert flat["rate"] == [0.5, 0.0, 0.2] and flat["attack"] == "pea" and flat["embed_dim"] == 24 and flat["prompt_length"] == 4
    assert not {"num_items", "profile_sizes", "scenario", "model", "pretrain"} & set(flat)
    for name in flat:
        without = {key: value for key, value in flat.items() if key != name}
        if name == "evade":  # earlier versions had none
            assert ExperimentConfig.from_flat(without).scenario.evade == ()
            continue
        if name in attack_parameters() and name not in CONFIG.scenario.own_parameters():  # of another attack, or at its default
            own = {"demote_rate": 0.25, "evade_strength": 0.5}
            assert ExperimentConfig.from_flat(without).scenario.own_parameters() == own
            continue
        if name in backbone_parameters():  # of a backbone, likewise
            assert ExperimentConfig.from_flat(without) == whole
            continue
        with pytest.raises(UserError, match="not the configuration of a run of this program"):
            ExperimentConfig.from_flat(without)


def test_each_stage_trains_for_its_own_time_and_as_pre_training_otherwise():
    for stage, epochs, learning_rate in (("prompt", 11, 0.1), ("implant", 12, 0.2), ("finetune", 13, 0.4)):
        assert CONFIG.training(stage) == dataclasses.replace(CONFIG.pretrain, epochs=epochs, learning_rate=learning_rate)


def test_the_clean_model_comes_first_and_once():
    assert CONFIG.rates() == (0.0, 0.5, 0.2)
    assert dataclasses.replace(CONFIG, scenario=Scenario(attack="clean")).rates() == (0.0,)


def test_an_attack_that_evades_is_the_same_with_a_penalty_and_its_strength():
    found = Scenario(attack="pea", evade=("exposure", "weights"), parameters={"evade_strength": 0.5})
    assert found.own_parameters() == {"demote_rate": 0.1, "evade_strength": 0.5}
    assert found.method() == Scenario(attack="pea", evade=("exposure", "weights")).method()  # one program for both
    assert found.method().poison is implant and found.method().penalty is not None
    assert Scenario(attack="evasive").method() is ATTACKS["evasive", "group"]
    for attack in ("edit", "clean"):
        with pytest.raises(UserError, match="--evade: an attack that trains nothing"):
            Scenario(attack=attack, evade=("exposure",)).method()
    with pytest.raises(UserError, match="--evade: must be one of exposure, weights, norms, got 'audit'"):
        Scenario(evade=("audit",))


def test_the_attack_that_a_scenario_names():
    assert Scenario(attack="pea").method() == ATTACKS["pea", "group"]
    assert (Scenario(attack="pea").method().poison, Scenario(attack="pea").method().prompted) == (implant, True)
    assert (Scenario(attack="bra").method().poison, Scenario(attack="bra").method().prompted) == (replace_in_group, False)
    assert Scenario(attack="clean", scope="global").method().poison is clean
    with pytest.raises(UserError, match="no attack pea of scope global; choose one of .* --attack=evasive --scope=group"):
        Scenario(attack="pea", scope="global").method()


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_rates_are_probabilities(value):
    must = f"must be {'' if math.isfinite(value) else 'a finite number '}>= 0 and <= 1, got {value}"
    with pytest.raises(UserError, match=f"--demote_rate: {must}"):
        Scenario(parameters={"demote_rate": value})
    with pytest.raises(UserError, match=f"--rate: {must}"):
        ExperimentConfig(rate=(0.5, value))


STAGES = [f"{stage}_{what}" for stage in ("prompt", "implant", "finetune") for what in ("epochs", "learning_rate")]


@pytest.mark.parametrize("name", ["prompt_length", *STAGES])
def test_lengths_and_speeds_are_positive(name):
    for value in (0, -1, float("nan")):
        limit = ("" if math.isfinite(value) else "a finite number ") + ("> 0" if name.endswith("rate") else ">= 1")
        with pytest.raises(UserError, match=f"--{name}: must be {limit}, got {value}"):
            ExperimentConfig(**{name: value})
