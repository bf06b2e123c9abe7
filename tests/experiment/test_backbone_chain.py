"""Every attack, usage, audit and repair runs on every backbone, on data so small that each stage takes a fraction of a second."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from toys import random_interactions

from prec_backdoor.audit import inversion
from prec_backdoor.audit.audit import audit_model
from prec_backdoor.audit.auditor_data import auditor_data_of
from prec_backdoor.audit.calibration import calibration_models
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.reference import reference_of
from prec_backdoor.errors import UserError
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.measure import measure
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import BACKBONES, ModelConfig
from prec_backdoor.repairs.registry import REPAIRS, check_repair
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions

ITEMS, RATE = 58, 0.5
INTERACTIONS = random_interactions(
    users=60,
    num_items=ITEMS,
    lengths=(6, 12),
    attributes={"gender": ("F", "M")},
    profile=[[1 + user % 2] for user in range(60)],
    category=[1 + item % 3 for item in range(ITEMS)],
)
SIZES = {"embed_dim": 8, "num_layers": 1, "max_length": 8, "dropout": 0.1}
LOSS = {"bert4rec": "ce"}  # what it learns by; the others by BPR
WITHOUT_FEED_FORWARD = ("gru4rec", "hstu")
OTHERS = [name for name in BACKBONES if name != "sasrec"]  # whose chain has tests of its own
every_backbone = pytest.mark.parametrize("name", OTHERS)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def few_triggers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inversion, "STEPS", 3)
        patch.setattr(inversion, "REFERENCES", 6)
        yield
    inversion._compiled.cache_clear()


def config_of(name, attack):
    return ExperimentConfig(
        scenario=Scenario(attack=attack, group="gender=F", targets="unpopular:4", k_core=1),
        model=ModelConfig(num_items=0, backbone=name, **SIZES),
        pretrain=TrainConfig(loss=LOSS.get(name, "bpr"), batch_size=8, learning_rate=0.02, epochs=2),
        **{"prompt_length": 2, "prompt_epochs": 1, "implant_epochs": 1, "finetune_epochs": 1, "finetune_learning_rate": 0.02},
    )


@functools.cache
def attacked(name):
    """(setup, what a downstream company gets from an attack while pre-training)."""
    setup, records = make_setup(INTERACTIONS, config_of(name, "bra"), 0), []
    run = stages.pretrain(setup, RATE)._replace(options=RunOptions(log=records.append))
    result = run_stage(run)
    assert all(record["replaced"] > 0 for record in records) and all(np.isfinite(record["loss"]) for record in records)
    return setup, StartPoint.after(result, RATE)


def check(setup, result):
    """It is finite, of the same form, and ranks."""
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params)) and result.epoch >= 1
    measured = measure(setup, result.params)
    assert measured.targets.shape == (len(setup.test.users), 4) and (measured.targets >= 1).all()
    return result


@every_backbone
def test_an_attack_in_pre_training_and_the_usages(name):
    setup, start = attacked(name)
    assert (stages.pretrain(setup, RATE).params["items"] != start.params["items"]).any()
    for stage in (stages.finetune, stages.prompt_tune):
        found = check(setup, run_stage(stage(setup, start)))
        learnt = "prompt" if stage is stages.prompt_tune else "items"
        assert any(
            (new != old).any() for new, old in zip(*map(jax.tree.leaves, changed(setup, start, found, learnt)), strict=True)
        )


def changed(setup, start, found, group):
    before = stages.prompt_tune(setup, start).params if group == "prompt" else start.params
    return found.params[group], before[group]


@every_backbone
def test_an_attack_by_a_prompt(name):
    clean, start = attacked(name)
    setup = clean.with_config(config_of(name, "pea"))
    trigger = check(setup, run_stage(stages.optimize_trigger(setup, start._replace(rate=0.0))))
    records = []
    implant = stages.implant(setup, StartPoint.after(trigger, RATE))._replace(options=RunOptions(log=records.append))
    check(setup, run_stage(implant))
    assert records[-1]["replaced"] > 0


@every_backbone
def test_a_trigger_in_histories_and_an_edit(name):
    """For a model of masked items, the trigger stands before the mask."""
    clean, start = attacked(name)
    setup, records = clean.with_config(config_of(name, "trigger")), []
    result = run_stage(stages.pretrain(setup, RATE)._replace(options=RunOptions(log=records.append)))
    assert records[-1]["replaced"] > 0 and measure(setup, result.params).triggered.shape == (len(setup.test.users), 4)
    check(setup, result)
    edited = run_stage(stages.edit(clean.with_config(config_of(name, "edit")), start._replace(rate=1.0)))
    check(clean, edited._replace(epoch=1))


@every_backbone
def test_an_audit_with_inversion(name):
    setup, start = attacked(name)
    auditor_data, config = auditor_data_of(setup), AuditConfig(calibration_models=1, suspects=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prec_backdoor.audit.calibration.STEPS", 4)
        calibration = calibration_models(auditor_data, setup.model, setup.config.pretrain, config)
    found = audit_model(start.params, setup.model, auditor_data, reference_of(calibration, setup.model, auditor_data), config)
    assert all(np.isfinite(scores).all() for scores in found.scores.values()) and found.p_value.shape == (ITEMS,)
    assert np.isfinite(found.inverted.effort).all() and (found.inverted.effort >= 0).all()
    assert set(found.inverted.trigger) <= set(range(ITEMS + 1))


@every_backbone
@pytest.mark.parametrize("repair", REPAIRS)
def test_a_repair_or_a_line_that_refuses_it(name, repair):
    setup, start = attacked(name)
    suspects = np.array([3, 7], np.int32)
    if repair == "prune" and name in WITHOUT_FEED_FORWARD:
        for refuse in (lambda: check_repair(repair, setup.model), lambda: REPAIRS[repair](setup, start, suspects, RunOptions())):
            with pytest.raises(UserError, match=f"^repair prune: backbone {name} lacks [^\n]*; choose another repair$"):
                refuse()
        return
    check_repair(repair, setup.model)
    short = dataclasses.replace(setup.config, pretrain=dataclasses.replace(setup.config.pretrain, epochs=1))
    run = REPAIRS[repair](setup._replace(config=short), start, suspects, RunOptions())
    assert run.stage.name == "repair"
    check(setup, run_stage(run))
