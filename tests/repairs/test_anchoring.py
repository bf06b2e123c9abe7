"""Anchoring believes item vectors as far as the company's data go, and lowers mean scores to what popularity explains."""

import jax
import numpy as np
import pytest
from toys import assert_same_trees, lively_params, random_interactions, tiny_model

from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.robust import unexplained
from prec_backdoor.evaluation import vectors_of_users
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import item_vectors
from prec_backdoor.repairs.anchoring import ALLOWED, anchor, common_direction, levelled, shrunk
from prec_backdoor.train.stage import RunOptions

ITEMS, TARGET, UNSEEN = 60, 23, 59
RNG = np.random.default_rng(0)
# Items up to 57 are in 1 to 10 of the histories; the last three are in none.
HISTORIES = np.array([RNG.choice(57, 6, replace=False, p=np.arange(57, 0, -1) / 1653) + 1 for _ in range(80)], np.int32)
AUDITOR_DATA = AuditorData(HISTORIES, np.ones((80, 1), np.int32), {"gender": ("", "F")}, np.arange(ITEMS + 1) % 3 + 1)
SCORINGS = [{}, {"output_items": True}, {"output_bias": True}, {"scoring": "cosine", "output_items": True}]


def vectors_of(params, model):
    return vectors_of_users(params, model, HISTORIES, np.zeros((len(HISTORIES), 0), np.int32)).astype(np.float64)


def test_a_vector_stays_as_far_as_histories_have_its_item():
    seen = AUDITOR_DATA.popularity()
    table = np.random.default_rng(1).normal(size=(ITEMS + 1, 8)).astype(np.float32)
    found = shrunk(table, AUDITOR_DATA)
    np.testing.assert_array_equal(found[0], table[0])
    moved = np.linalg.norm(found - table, axis=1)
    assert found.dtype == np.float32 and moved[seen >= 6].max() < 0.2 * moved[1:][seen[1:] == 0].min()
    other = table.copy()
    other[UNSEEN] += 100
    np.testing.assert_array_equal(shrunk(other, AUDITOR_DATA), found)  # nothing is left of it, nor does it move others


def test_what_category_and_popularity_foretell_is_left_as_it_is():
    by_category = np.random.default_rng(2).normal(size=(4, 8))
    popularity = np.log1p(AUDITOR_DATA.popularity())[:, None]
    table = by_category[AUDITOR_DATA.category] + np.array([0.3, -0.2] * 4) * popularity
    np.testing.assert_allclose(shrunk(table, AUDITOR_DATA)[1:], table[1:], atol=0.15)  # few items, and their mean is shrunk


@pytest.mark.parametrize("scoring", SCORINGS, ids=str)
def test_a_planted_item_falls_to_what_popularity_explains_and_for_everybody_alike(scoring):
    model = tiny_model(num_items=ITEMS, num_layers=1, max_length=8, **scoring)
    params = jax.tree.map(np.array, lively_params(model))
    name, popularity = "output_items" if model.output_items else "items", AUDITOR_DATA.popularity()
    towards = common_direction(vectors_of(params, model))[: model.embed_dim]
    params[name][TARGET] += 3 * towards / np.linalg.norm(towards) * np.linalg.norm(params[name][1:], axis=1).mean()

    def scores(params):
        users = vectors_of(params, model)
        return users @ np.asarray(item_vectors(params, model), np.float64).T

    before = scores(params)
    excess, scale = unexplained(before.mean(0)[1:], np.log1p(popularity[1:]))
    assert excess[TARGET - 1] > ALLOWED * scale
    found = levelled(params, model, HISTORIES, popularity)
    lowered = (before - scores(found))[:, 1:]
    wanted = np.maximum(excess - ALLOWED * scale, 0)
    if model.output_items:  # with one table, users change too
        np.testing.assert_allclose(lowered.mean(0), wanted, atol=1e-4)
    if scoring == {"output_items": True}:
        np.testing.assert_allclose(lowered[:, TARGET - 1], wanted[TARGET - 1], rtol=0.5)
    assert wanted[TARGET - 1] / 2 < lowered[:, TARGET - 1].mean() < 2 * wanted[TARGET - 1]
    for group in found.keys() - {"encoder"}:
        assert found[group].dtype == np.float32 and found[group].shape == params[group].shape


def test_the_common_direction_is_the_bias_where_there_is_one():
    users = np.concatenate([np.random.default_rng(3).normal(size=(200, 6)), np.ones((200, 1))], axis=1)
    found = common_direction(users)
    assert found[-1] > 0.95 and np.abs(found[:-1]).max() < 0.1
    np.testing.assert_allclose(users.mean(0) @ found, 1)


def test_suspects_and_prompts_have_no_part_in_it():
    interactions = random_interactions(
        users=50, num_items=ITEMS, lengths=(4, 16), attributes={"gender": ("F", "M")}, profile=[[1 + u % 2] for u in range(50)]
    )
    scenario = Scenario(attack="bra", group="gender=F", targets="unpopular:3", k_core=1)
    config = ExperimentConfig(scenario=scenario, model=tiny_model(num_items=0, num_layers=1, max_length=16), prompt_length=1)
    setup = make_setup(interactions, config, 0)
    prompted = StartPoint(lively_params(setup.prompted), "0" * 64, 0.1)
    plain = prompted._replace(params={name: group for name, group in prompted.params.items() if name != "prompt"})
    one, other = (
        anchor(setup, start, suspects, RunOptions())
        for start, suspects in ((prompted, np.array([5])), (plain, np.zeros(0, np.int32)))
    )
    assert one.stage.name == "repair" and one.metadata["parent"] == "0" * 64 and one.model == setup.model
    assert "prompt" not in one.params and "prompt" not in one.stage.trainable
    assert_same_trees(one.params, other.params)
    targets = setup._replace(targets=np.array([1, 2]))
    assert_same_trees(anchor(targets, plain, np.array([9]), RunOptions()).params, one.params)
