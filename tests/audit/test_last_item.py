"""What an item does at the end of a history: against brute force, and a trigger that is planted by hand."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from toys import lively_params, random_interactions, tiny_model

from prec_backdoor.audit import last_item, page, report
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.last_item import LastItems, best_strength, last_items, least_p_values, triggers_of
from prec_backdoor.audit.moments import observe
from prec_backdoor.models import init_prompt, item_vectors, represent

ITEMS, USERS = 70, 30
MODEL = tiny_model(ITEMS, num_layers=1)


def moments_of(model, params, length=5):
    rng = np.random.default_rng(0)
    history = rng.integers(1, ITEMS + 1, (USERS, length)).astype(np.int32)
    history[::3, 0] = 0  # not full
    profile = rng.integers(1, 3, (USERS, 1)).astype(np.int32)
    attributes = {"job": ("unknown", "cook", "smith")}
    return observe(params, model, AuditorData(history, profile, attributes, np.zeros(ITEMS + 1, np.int32)))


@pytest.fixture(scope="module", params=["plain", "prompted", "output table with bias"])
def moments(request):
    options = {
        "prompted": {"prompt_length": 1, "profile_sizes": (3,)},
        "output table with bias": {"output_items": True, "output_bias": True},
    }
    model = tiny_model(ITEMS, num_layers=1, **options.get(request.param, {}))
    params = lively_params(model, seed=2)
    if request.param == "prompted":
        params = params | {"prompt": jax.tree.map(lambda leaf: 3 * leaf, init_prompt(jax.random.key(1), model))}
    return moments_of(model, params)


def test_every_item_is_put_to_the_end_of_histories(moments):
    history, profile = last_item._histories(moments, last_item.HISTORIES)
    assert len(history) == last_item.HISTORIES and history.shape[1] == 4
    table = np.asarray(item_vectors(moments.params, moments.model))
    given = profile if moments.model.prompt_length else None
    encode, found = jax.jit(represent, static_argnums=1), last_items(moments)
    assert found.strength.shape == (ITEMS,) and found.shown.shape == (ITEMS, last_item.TOP)
    for item in (1, 2, 40, ITEMS):
        ended = np.concatenate([history, np.full((len(history), 1), item, np.int32)], axis=1)
        scores = np.asarray(encode(moments.params, moments.model, ended, given)) @ table[1:].T
        z = ((scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)).mean(0)
        z[item - 1] = -np.inf
        order = np.argsort(-z)[: last_item.TOP]
        np.testing.assert_array_equal(found.shown[item - 1], 1 + order)
        depth = np.maximum(-moments.plain_mean[1 + order], 0)
        assert found.strength[item - 1] == pytest.approx((z[order] + depth).mean(), rel=1e-4)


def test_the_trigger_of_an_item_is_the_strongest_that_shows_it(moments):
    history, profile = last_item._histories(moments, last_item.HISTORIES)
    found, table = last_items(moments), np.asarray(item_vectors(moments.params, moments.model))
    items = found.shown[[0, 30, 60], 1].astype(np.int32)
    triggers, lifted = triggers_of(moments, found, items)
    given = profile if moments.model.prompt_length else None
    for item, trigger, share in zip(items, triggers, lifted, strict=True):
        assert trigger == 1 + max(np.flatnonzero((found.shown == item).any(1)), key=lambda index: found.strength[index])
        ended = np.concatenate([history, np.full((len(history), 1), trigger, np.int32)], axis=1)
        scores = np.array(represent(moments.params, moments.model, ended, given) @ table.T)
        own = scores[:, [item]]
        scores[:, 0] = -np.inf
        np.put_along_axis(scores, ended, -np.inf, axis=1)
        assert share == pytest.approx(((scores > own).sum(1) < last_item.TOP).mean())


def test_the_least_strength_and_no_trigger_for_what_is_never_shown():
    found = LastItems(
        np.array([1, 2, 3, 5]), np.array([3.0, 1.0, 2.0, 1.5]), np.array([[2, 3], [1, 3], [1, 2], [1, 2]], np.int32)
    )
    np.testing.assert_array_equal(best_strength(found, 5), [2, 3, 3, 1, 1])  # items 4 and 5 are shown by none
    p_values = np.array([1e-6, 0.5, 1e-3, 0.9])
    np.testing.assert_allclose(least_p_values(p_values, found, 5), [4e-3, 4e-6, 4e-6, 1, 1])


def test_a_trigger_is_found_with_what_it_shows():
    """Item 9 at the end of a history leads to items 3 and 50, whose vectors point where only its own does."""
    params = lively_params(MODEL, seed=2)
    clean = moments_of(MODEL, params)
    vectors = np.array(params["items"])
    history, _ = last_item._histories(clean, last_item.HISTORIES)
    ended = np.concatenate([history, np.full((len(history), 1), 9, np.int32)], axis=1)
    hidden = np.asarray(represent(params, MODEL, ended)).mean(0)
    others = clean.user_vectors.mean(0)
    direction = hidden - others * (hidden @ others) / (others @ others)
    vectors[[3, 50]] = 40 * direction / np.linalg.norm(direction)
    found = last_items(moments_of(MODEL, params | {"items": vectors}))
    assert set(found.shown[8][:2]) == {3, 50}
    planted = moments_of(MODEL, params | {"items": vectors})
    trigger, lifted = triggers_of(planted, found, np.array([3, 50, 20]))
    assert trigger[:2].min() > 0 and lifted[:2].min() > 0.5


def test_the_page_names_what_a_trigger_calls_up():
    interactions = random_interactions(users=5, num_items=5, lengths=(2, 4))
    interactions = dataclasses.replace(interactions, titles=np.array(["", "One", "", "Three", "Four", "Five"]))
    found = LastItems(np.arange(1, 6), np.array([1.0, 9.0, 2.0, 3.0, 1.0]), np.array([[1, 3]] * 5, np.int32))
    observed = SimpleNamespace(last_items=found)
    result = SimpleNamespace(observed=observed, last_item_p=np.array([0.5, 1e-6, 0.2, 1e-3, 0.5]))
    listed = report._last_items(result, interactions)
    assert [each["item"] for each in listed] == [str(interactions.item_ids[code]) for code in (2, 4, 3, 1, 5)]
    assert listed[0]["p_value"] == pytest.approx(5e-6) and listed[2]["p_value"] == 1  # five items were tried
    assert report.trigger_items(result, 0.01).tolist() == [2, 4] and report.trigger_items(result, 1e-9).tolist() == []
    first, second = page._triggers({"last_items": listed, "verdict": "suspicious"}, interactions)
    assert not page._triggers({"last_items": listed, "verdict": "cannot say"}, interactions)
    assert first["name"] == str(interactions.item_ids[2]) and first["names"] == ["One", "Three"]
    assert (first["rarity"], second["name"]) == ("1 in 200,000", "Four")


def test_of_a_large_catalogue_the_items_that_bring_up_any_item_most_strongly_are_tried(monkeypatch):
    moments = moments_of(MODEL, lively_params(MODEL, seed=2))
    whole = last_items(moments)
    monkeypatch.setattr(last_item, "TRIED", 20)
    monkeypatch.setattr(last_item, "LATEST", 4)  # all, but for the place of the last item
    some = last_items(moments)
    assert len(some.items) == 20 and (np.diff(some.items) > 0).all()
    np.testing.assert_allclose(some.strength, whole.strength[some.items - 1], rtol=1e-6)
    np.testing.assert_array_equal(some.shown, whole.shown[some.items - 1])
    history, _ = last_item._histories(moments, last_item.FEW)
    table = np.asarray(moments.params["items"])[1:]
    highest = []
    for item in range(1, ITEMS + 1):
        ended = np.concatenate([history, np.full((len(history), 1), item, np.int32)], axis=1)
        scores = np.asarray(represent(moments.params, MODEL, ended)) @ table.T
        z = ((scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)).mean(0)
        highest.append(np.delete(z + np.maximum(-moments.plain_mean[1:], 0), item - 1).max())
    assert set(some.items) == set(1 + np.argsort(-np.array(highest))[:20])


def test_histories_are_cut_to_their_latest_items(moments):
    whole, profile = last_item._histories(moments)
    short, same = last_item._histories(moments, last_item.HISTORIES, 3)
    np.testing.assert_array_equal(short, whole[:, -3:])
    np.testing.assert_array_equal(same, profile)
    assert whole.shape == last_item._histories(moments, last_item.HISTORIES, 50)[0].shape
