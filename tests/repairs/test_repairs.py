"""Each repair does what it is called, on a model so small that it takes a moment."""

import contextlib
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_same_trees, lively_params, random_interactions, tiny_model

from prec_backdoor.attacks import make_spec
from prec_backdoor.audit.auditor_data import auditor_data_of
from prec_backdoor.data.batches import Batch
from prec_backdoor.errors import UserError
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import BACKBONES, ModelConfig, init_params, represent
from prec_backdoor.repairs import pruning, registry
from prec_backdoor.repairs.distillation import continued
from prec_backdoor.repairs.pruning import activities, pruned
from prec_backdoor.repairs.reestimation import reestimated
from prec_backdoor.repairs.registry import REPAIRS, check_repair, register_repair
from prec_backdoor.repairs.suppression import exposure_penalty
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions

ITEMS = 60
SUSPECTS = np.array([5, 17, 40])
INTERACTIONS = random_interactions(
    users=50,
    num_items=ITEMS,
    lengths=(4, 16),
    attributes={"gender": ("F", "M")},
    profile=[[1 + user % 2] for user in range(50)],
    category=[1 + item % 3 for item in range(ITEMS)],
)
CONFIG = ExperimentConfig(
    scenario=Scenario(attack="bra", group="gender=F", targets="unpopular:3", k_core=1),
    model=tiny_model(num_items=0, num_layers=1, max_length=16),
    pretrain=TrainConfig(batch_size=8, learning_rate=0.02, epochs=1),
    prompt_length=1,
    finetune_epochs=2,
    finetune_learning_rate=0.02,
)


@pytest.fixture(scope="module")
def setup():
    return make_setup(INTERACTIONS, CONFIG, 0)


@pytest.fixture(scope="module")
def source(setup):
    return StartPoint(lively_params(setup.model), "0" * 64, 0.1)


def repaired(name, setup, source, folder=None):
    """The result of a repair of SUSPECTS."""
    options = RunOptions(folder=folder)
    run = REPAIRS[name](setup, source, SUSPECTS, options)
    assert run.metadata["parent"] == source.hash or name == "distil"
    return run_stage(run._replace(options=options))


@pytest.mark.parametrize("name", REPAIRS)
def test_a_repair_is_a_stage_that_resumes_and_knows_its_parent(name, setup, source, tmp_path):
    result = repaired(name, setup, source, tmp_path)
    assert jax.tree.structure(result.params) == jax.tree.structure(source.params)
    assert result.epoch > 0 and (tmp_path / "checkpoints").is_dir()
    assert_same_trees(repaired(name, setup, source, tmp_path).params, result.params)


def test_the_baseline_is_fine_tuning(setup, source):
    found = repaired("finetune", setup, source)
    assert_same_trees(found.params, run_stage(stages.finetune(setup, source)).params)


def test_a_model_with_a_prompt_is_repaired_too(setup):
    prompted = StartPoint(lively_params(setup.prompted))
    for name, kept in (("reestimate", True), ("distil", False), ("anchor", False)):
        assert ("prompt" in repaired(name, setup, prompted).params) == kept


def test_reestimated_rows_come_from_the_others_alone(setup, source):
    items, auditor_data = np.asarray(source.params["items"]), auditor_data_of(setup)
    found = reestimated(items, SUSPECTS, auditor_data)
    rest = np.setdiff1d(np.arange(ITEMS + 1), SUSPECTS)
    np.testing.assert_array_equal(found[rest], items[rest])
    other = items.copy()
    other[SUSPECTS] += 100
    np.testing.assert_array_equal(reestimated(other, SUSPECTS, auditor_data)[SUSPECTS], found[SUSPECTS])


def test_reestimation_finds_what_category_and_company_foretell(setup):
    auditor_data = auditor_data_of(setup)
    by_category = np.random.default_rng(0).normal(size=(4, 8))
    items = by_category[auditor_data.category]
    found = reestimated(items, SUSPECTS, auditor_data)
    np.testing.assert_allclose(found[SUSPECTS], items[SUSPECTS], atol=0.5)  # a ridge shrinks
    suspect = next(item for item in range(1, ITEMS + 1) if (auditor_data.history == item).any())
    beside = np.setdiff1d(auditor_data.history[(auditor_data.history == suspect).any(1)], [0, suspect])
    moved = items.copy()
    moved[beside] += 3  # more than their categories say
    assert (
        reestimated(moved, np.array([suspect]), auditor_data)[suspect]
        - reestimated(items, np.array([suspect]), auditor_data)[suspect]
        > 0.5
    ).all()


def test_the_penalty_is_for_suspects_above_what_came_next():
    rng = np.random.default_rng(0)
    hidden, items = rng.normal(size=(1, 3, 4)).astype(np.float32), rng.normal(size=(ITEMS + 1, 4)).astype(np.float32)
    label = np.array([[9, 17, 0]])
    batch = Batch(*[None] * len(Batch._fields))._replace(label=label)
    found = np.asarray(exposure_penalty(hidden, items, batch, make_spec(INTERACTIONS, SUSPECTS, 0.0)))
    for position in (0, 1):
        scores = items @ hidden[0, position]
        terms = [np.log1p(np.exp(scores[each] - scores[label[0, position]])) for each in SUSPECTS if each != label[0, position]]
        np.testing.assert_allclose(found[0, position], sum(terms) / len(SUSPECTS), rtol=1e-5)
    assert found[0, 2] == 0


def test_suppression_lowers_what_fine_tuning_leaves(setup, source):
    def shown(params):
        hidden = represent(params, setup.model, setup.test.history)
        return float((hidden @ params["items"][SUSPECTS].T).mean())

    plain, suppressed = (repaired(name, setup, source).params for name in ("finetune", "suppress"))
    assert shown(suppressed) < shown(plain)


def test_what_is_pruned_is_the_dormant_and_stays_dead(setup, source, monkeypatch):
    auditor_data = auditor_data_of(setup)
    monkeypatch.setattr(pruning, "SHARE", 0.5)
    before = activities(source.params, setup.model, auditor_data)
    encoder = pruned(source.params, setup.model, auditor_data)
    after = activities(source.params | {"encoder": encoder}, setup.model, auditor_data)
    tuned = repaired("prune", setup, source).params["encoder"]
    for layer, (was, now) in enumerate(zip(before, after, strict=True)):
        assert (was > 0).all() and ((now == 0) == (was < np.median(was))).all()
        for changed in (encoder, tuned):
            assert ((changed[f"feedforward_in_{layer}"]["kernel"] == 0).all(0) == (now == 0)).all()


def test_sequences_go_on_with_anything_but_suspects_and_what_was_there(setup, source):
    auditor_data = auditor_data_of(setup)
    made = continued(source.params, setup.model, auditor_data, SUSPECTS, jax.random.key(0))
    longest = auditor_data.history.shape[1]
    assert made.shape == (len(auditor_data.history), setup.model.max_length)
    np.testing.assert_array_equal(made[:, :longest], auditor_data.history)
    new = made[:, longest:]
    assert (new > 0).all() and not np.isin(new, SUSPECTS).any()
    assert all(len(set(row[row > 0])) == (row > 0).sum() for row in made)


def test_a_sequence_ends_where_no_item_is_left(setup, source):
    auditor_data = auditor_data_of(setup).select(np.arange(2))
    left = [1, 2, *np.unique(auditor_data.history)]  # all others are suspects
    suspects = np.setdiff1d(np.arange(1, ITEMS + 1), left)
    made = continued(source.params, setup.model, auditor_data, suspects, jax.random.key(0))
    for row, given in zip(made, auditor_data.history, strict=True):
        assert sorted(row[row > 0]) == sorted(set(row[row > 0])) and row[-1] > 0
        assert set(given[given > 0]) <= set(row[row > 0].tolist()) <= set(left)


def test_a_penalty_is_refused_where_the_item_table_is_not_whole(setup, source):
    lazy = dataclasses.replace(setup.config.pretrain, item_updates="lazy")
    with pytest.raises(Exception, match="needs the whole item table"):
        repaired("suppress", setup._replace(config=dataclasses.replace(setup.config, pretrain=lazy)), source)


class Pooling(nn.Module):
    """A backbone without feed-forward layers: the sum of all vectors so far, through one matrix."""

    config: ModelConfig

    @nn.compact
    def __call__(self, vectors, position, segment, prefix=None, train=False, last_only=False):
        hidden = nn.Dense(self.config.embed_dim)(jnp.cumsum(vectors * (segment > 0)[..., None], axis=-2))
        return hidden[..., -1:, :] if last_only else hidden


@pytest.fixture
def pooling(monkeypatch):
    monkeypatch.setitem(BACKBONES, "pooling", Pooling)
    return dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, backbone="pooling"))


def test_pruning_is_refused_in_one_line_where_there_are_no_feed_forward_layers(pooling, monkeypatch):
    setup = make_setup(INTERACTIONS, pooling, 0)
    start = StartPoint(init_params(jax.random.key(0), setup.model))
    monkeypatch.setattr(pruning, "pruned", None)  # nothing is computed before
    with pytest.raises(UserError, match=r"^repair prune: backbone pooling lacks intermediates feedforward_0, parameters .*$"):
        REPAIRS["prune"](setup, start, SUSPECTS, RunOptions())
    for name in REPAIRS:
        with pytest.raises(UserError) if name == "prune" else contextlib.nullcontext():
            check_repair(name, setup.model)
    check_repair("prune", CONFIG.model)


def test_repairs_are_registered_once_and_with_their_check(monkeypatch):
    monkeypatch.setattr(registry, "REPAIRS", dict(REPAIRS))
    monkeypatch.setattr(registry, "CHECKS", dict(registry.CHECKS))
    register_repair("own", REPAIRS["finetune"], pruning.check_feedforward)
    assert registry.REPAIRS["own"] is REPAIRS["finetune"] and registry.CHECKS["own"] is pruning.check_feedforward
    with pytest.raises(ValueError, match="the repair own is registered already"):
        register_repair("own", REPAIRS["finetune"])
