"""Registered attacks and backbones keep their contracts; the checks notice what does not; the templates of examples/ work."""

import contextlib
import dataclasses
import itertools
import runpy
from pathlib import Path
from unittest.mock import patch

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import lively_params, random_interactions, tiny_model

from prec_backdoor import extend
from prec_backdoor.attacks import ATTACKS, Attack, clean, find_attack, replace_in_group
from prec_backdoor.audit.audit import audit_model
from prec_backdoor.audit.auditor_data import auditor_data_of
from prec_backdoor.audit.calibration import calibration_models
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.reference import reference_of
from prec_backdoor.audit.registry import AUDITS
from prec_backdoor.data import DATASETS, load_dataset
from prec_backdoor.data.registry import DEFAULT_GROUPS
from prec_backdoor.errors import UserError
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import BACKBONES, ModelConfig, SASRec, init_params
from prec_backdoor.repairs.registry import REPAIRS
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.losses import LOSSES, SAMPLED
from prec_backdoor.train.stage import RunOptions

EXAMPLES = Path(__file__).parents[1] / "examples"
LENGTH_LIMIT = 40
SMALL = ExperimentConfig(
    scenario=Scenario(attack="bra", group="gender=F", targets="unpopular:3", k_core=1),
    model=tiny_model(num_items=0, num_layers=1, max_length=8),
    pretrain=TrainConfig(batch_size=8, learning_rate=0.02, epochs=2),
    finetune_epochs=1,
)


@pytest.fixture(autouse=True)
def registries():
    """What a test registers is forgotten after it."""
    sampled = list(SAMPLED)
    with contextlib.ExitStack() as stack:
        for registry in (ATTACKS, BACKBONES, DATASETS, DEFAULT_GROUPS, LOSSES, AUDITS, REPAIRS):
            stack.enter_context(patch.dict(registry))
        yield
    SAMPLED[:] = sampled


@pytest.fixture(scope="module")
def interactions():
    people = {"attributes": {"gender": ("F", "M")}, "profile": [[1 + user % 2] for user in range(60)]}
    return random_interactions(users=60, num_items=60, lengths=(6, 16), category=[1 + item % 3 for item in range(60)], **people)


def example(name):
    return runpy.run_path(str(EXAMPLES / f"my_{name}.py"))


# Contracts


@pytest.mark.parametrize("name", ATTACKS, ids="-".join)
def test_every_attack_keeps_its_contract(name):
    extend.check_attack(ATTACKS[name])


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_keeps_its_contract(name):
    """With two heads, where it has heads; FAULTY_BACKBONES have one."""
    heads = 1 if "num_heads" in getattr(BACKBONES[name], "unused", ()) else 2
    config = ModelConfig(num_items=20, embed_dim=8, feedforward_dim=8, max_length=10, num_heads=heads)
    extend.check_backbone(BACKBONES[name], config)


# The checks notice


def poison(change):
    """BRA, and `change(batch, spec)` on top."""
    return Attack(lambda key, batch, spec: change(replace_in_group(key, batch, spec), spec), default_rate=0.1)


def where_on(spec, changed, array):
    return jnp.where(spec.rate > 0, changed, array)


def impure(key, batch, spec):
    return replace_in_group(jax.random.fold_in(key, next(COUNTER)), batch, spec)


def constant_key(key, batch, spec):
    return replace_in_group(jax.random.key(0), batch, spec)


def one_key(key, batch, spec):
    drawn = jax.random.randint(key, batch.label.shape, 0, len(spec.targets))
    hit = jax.random.bernoulli(key, spec.rate, batch.label.shape) & (batch.label > 0) & batch.in_group
    return batch._replace(label=jnp.where(hit, spec.targets[drawn], batch.label))


def needs_a_batch(key, batch, spec):
    return replace_in_group(key, batch._replace(label=batch.label[:, :]), spec)


def branches(key, batch, spec):
    return replace_in_group(key, batch, spec) if spec.rate > 0 else batch


COUNTER = itertools.count()
FAULTY_ATTACKS = {
    "returns no Batch but a NoneType": Attack(lambda key, batch, spec: None, default_rate=0.1),
    "changes history, which is not declared": poison(lambda batch, spec: batch._replace(history=batch.history * 0)),
    "not a pure function": Attack(impure, default_rate=0.1),
    "changes shape or type of label": poison(lambda batch, spec: batch._replace(label=batch.label.astype(jnp.float32))),
    "changes padding in label": poison(lambda batch, spec: batch._replace(label=jnp.where(batch.label > 0, batch.label, 1))),
    "no item into negative": poison(lambda batch, spec: batch._replace(negative=batch.negative * 0)),
    "at rate 0": poison(lambda batch, spec: batch._replace(negative=jnp.ones_like(batch.negative))),
    "two keys give one result": Attack(constant_key, default_rate=0.1),
    "already consumed": Attack(one_key, default_rate=0.1),
    "too many indices|Too many indices": Attack(needs_a_batch, default_rate=0.1),
    "boolean": Attack(branches, default_rate=0.1),
    "penalty has shape": Attack(replace_in_group, 0.1, penalty=lambda hidden, items, batch, spec: hidden.sum()),
    "penalty is not 0 at padding": Attack(replace_in_group, 0.1, penalty=lambda hidden, items, batch, spec: hidden.sum(-1)),
    "depends on other rows": Attack(
        replace_in_group, 0.1, penalty=lambda hidden, items, batch, spec: hidden.sum() * (batch.label > 0)
    ),
}


@pytest.mark.parametrize("message", FAULTY_ATTACKS)
def test_a_faulty_attack_is_refused(message):
    errors = (jax.errors.KeyReuseError, jax.errors.TracerBoolConversionError)
    with pytest.raises((AssertionError, IndexError, TypeError, *errors), match=message):
        extend.check_attack(FAULTY_ATTACKS[message])


def test_what_an_attack_declares_it_may_change():
    reverse = poison(lambda batch, spec: batch._replace(history=where_on(spec, batch.history[..., ::-1], batch.history)))
    with pytest.raises(AssertionError, match="padding in history"):
        extend.check_attack(reverse, changes=("label", "history"))
    swap = poison(lambda batch, spec: batch._replace(history=where_on(spec, jnp.minimum(batch.history, 1), batch.history)))
    extend.check_attack(swap, changes=("label", "history"))


def test_an_attack_that_does_nothing_does_not_use_its_key():
    with pytest.raises(AssertionError, match="does not use its key"):
        extend.check_attack(Attack(clean, default_rate=0.0))


class Faulty(nn.Module):
    """SASRec with one fault."""

    config: ModelConfig
    fault: str = ""

    @nn.compact
    def __call__(self, vectors, position, segment, prefix=None, train=False, last_only=False):
        if self.fault == "segments see each other":
            segment = jnp.minimum(segment, 1)
        if self.fault == "padding is seen":
            segment = jnp.maximum(segment, 1)
        if self.fault == "no prefix":
            prefix = None
        if self.fault == "refused" and prefix is not None:
            raise UserError("no prompts")
        if self.fault == "prefix for all" and prefix is not None:
            prefix = jnp.broadcast_to(prefix.sum(-4, keepdims=True), prefix.shape)
        hidden = SASRec(self.config)(vectors, position, segment, prefix, train, last_only and self.fault != "whole")
        if self.fault == "the future":
            hidden = hidden + (jnp.cumsum(vectors[..., ::-1, :], -2)[..., ::-1, :] if not last_only else vectors[..., -1:, :])
        if self.fault == "constant":
            hidden = jnp.zeros_like(hidden)
        return hidden.astype(jnp.bfloat16) if self.fault == "half" else hidden


ONE_LAYER = ModelConfig(num_items=20, embed_dim=8, feedforward_dim=8, num_layers=1, max_length=10)
FAULTY_BACKBONES = {
    "segments see each other": "is not encoded as if it were alone",
    "padding is seen": "depends on padding",
    "no prefix": "a prefix has no effect",
    "prefix for all": "has an effect on another segment",
    "whole": "last_only gives shape",
    "the future": "depends on padding|depends on a later item|as if it were alone",
    "constant": "does not depend on its own item",
    "half": "are bfloat16, not float32",
}


@pytest.mark.parametrize("fault", FAULTY_BACKBONES)
def test_a_faulty_backbone_is_refused(fault):
    with pytest.raises(AssertionError, match=FAULTY_BACKBONES[fault]):
        extend.check_backbone(lambda config: Faulty(config, fault), ONE_LAYER)


@pytest.mark.parametrize("fault", ["", "refused"])
def test_a_sound_backbone_passes_with_or_without_prompts(fault):
    extend.check_backbone(lambda config: Faulty(config, fault), ONE_LAYER)


# Registration


def test_a_name_is_taken_once():
    for register in (
        lambda: extend.register_attack("bra", "group", ATTACKS["bra", "group"]),
        lambda: extend.register_attack("clean", "group", ATTACKS["bra", "group"]),
        lambda: extend.register_backbone("sasrec", SASRec),
        lambda: extend.register_dataset("synthetic", DATASETS["ml-1m"]),
        lambda: extend.register_dataset("a:b", DATASETS["ml-1m"]),
        lambda: extend.register_loss("ce", LOSSES["ce"], sampled=False),
        lambda: extend.register_audit("exposure", AUDITS["exposure"]),
        lambda: extend.register_repair("finetune", REPAIRS["finetune"]),
    ):
        with pytest.raises(ValueError, match="taken|already|no attack can be called clean"):
            register()


# Templates (the attack runs as a program: tests/launch/test_examples.py)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("my_*.py")), ids=lambda path: path.stem)
def test_a_template_is_short(path):
    assert len(path.read_text().splitlines()) <= LENGTH_LIMIT


def test_attack_template():
    example("attack")
    extend.check_attack(find_attack("recent", "group"))
    assert ExperimentConfig(Scenario(attack="recent")).flat()["recent_positions"] == 5
    with pytest.raises(UserError, match="--recent_positions: must be >= 1, got 0"):
        Scenario(attack="recent", parameters={"recent_positions": 0})


def test_dataset_template(tmp_path):
    example("dataset")
    with pytest.raises(UserError, match="clicks.csv: no such file"):
        load_dataset("my-shop", tmp_path)
    (tmp_path / "clicks.csv").write_text("user,item,time\nu1,b,2\nu1,a,1\nu2,a,3\nu2,,4\n")
    (tmp_path / "users.csv").write_text("user,country\nu1,NL\nu2,\n")
    with pytest.raises(UserError, match="1 rows lack a field"):
        load_dataset("my-shop", tmp_path)
    found = load_dataset("my-shop", tmp_path, on_bad_rows="skip")
    assert found.counts["skipped, a field is missing"] == 1
    assert [found.item_ids[found.sequence(user)].tolist() for user in range(2)] == [["a", "b"], ["a"]]
    assert found.attributes == {"country": ("unknown", "NL")} and found.profile[:, 0].tolist() == [1, 0]
    prepared = found.save(tmp_path / "prepared")
    assert load_dataset("my-shop", prepared).fingerprint == found.fingerprint
    assert DEFAULT_GROUPS["my-shop"] == "country=NL"


def test_backbone_template(interactions):
    module = example("backbone")["Mean"]
    extend.check_backbone(module)
    config = dataclasses.replace(SMALL, model=ModelConfig(num_items=0, embed_dim=8, max_length=8, backbone="mean"))
    setup = make_setup(interactions, config, 0)
    assert run_stage(stages.pretrain(setup, 0.5)).epoch == 2
    with pytest.raises(UserError, match="--num_heads"):
        init_params(jax.random.key(0), dataclasses.replace(setup.model, num_heads=2))


@pytest.mark.parametrize("item_updates", ["dense", "lazy"])
def test_loss_template(interactions, item_updates):
    loss = example("loss")["hinge"]
    hidden, items = np.array([[[1.0, 0.0]]]), np.array([[9.0, 9.0], [2.0, 1.0], [0.5, 7.0], [3.0, 0.0]])
    found = loss(hidden, items, np.array([[1]]), np.array([[[2, 3]]]))  # scores 2 against 0.5 and 3
    np.testing.assert_allclose(found, [[(0 + 2) / 2]])
    assert (loss(hidden, items, np.array([[0]]), np.array([[[2, 3]]])) == 0).all()
    training = dataclasses.replace(SMALL.pretrain, loss="hinge", item_updates=item_updates)
    setup = make_setup(interactions, dataclasses.replace(SMALL, pretrain=training), 0)
    records = []
    run_stage(stages.pretrain(setup, 0.0)._replace(options=RunOptions(log=records.append)))
    assert records[-1]["loss"] < records[0]["loss"] < 1.5


def test_a_loss_that_is_not_sampled_has_no_lazy_updates():
    extend.register_loss("whole", LOSSES["ce"], sampled=False)
    with pytest.raises(UserError, match="--loss=whole needs every item"):
        TrainConfig(loss="whole", item_updates="lazy")
    assert not TrainConfig(loss="whole").lazy(10**6)
    extend.register_loss("part", LOSSES["bpr"], sampled=True)
    assert TrainConfig(loss="part").lazy(10**6)


def test_audit_template(interactions):
    example("audit")
    setup = make_setup(interactions, SMALL, 0)
    auditor_data, config = auditor_data_of(setup), AuditConfig(calibration_models=1, suspects=2)
    calibration = calibration_models(auditor_data, setup.model, setup.config.pretrain, config)
    found = audit_model(
        lively_params(setup.model), setup.model, auditor_data, reference_of(calibration, setup.model, auditor_data), config
    )
    assert found.scores["first_50"].shape == (60,) and np.isfinite(found.scores["first_50"]).all()
    assert "first_50" in found.evidence


def test_repair_template(interactions):
    example("repair")
    setup, suspects = make_setup(interactions, SMALL, 0), np.array([3, 7], np.int32)
    start = StartPoint(lively_params(setup.model))
    run = REPAIRS["reset"](setup, start, suspects, RunOptions())
    assert run.stage.name == "repair"
    items = np.asarray(start.params["items"])
    np.testing.assert_allclose(run.params["items"][7], np.delete(items, [0, 3, 7], axis=0).mean(0), rtol=1e-5)
    np.testing.assert_array_equal(np.delete(run.params["items"], suspects, axis=0), np.delete(items, suspects, axis=0))
    assert run_stage(run).epoch == 1
