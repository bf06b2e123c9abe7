"""How near an item's nearest items are: against brute force, and items planted together."""

import numpy as np
import pytest
from toys import lively_params, tiny_model

from prec_backdoor.audit import nearness
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.moments import largest, observe
from prec_backdoor.audit.views import AS_IT_COMES

ITEMS = 300


@pytest.mark.parametrize("number", [1, 4])
def test_the_nth_nearest_of_all_others(number):
    unit = np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    np.testing.assert_allclose(nearness.nearest_cosines(unit, number), np.sort(cosines, axis=1)[:, -number], rtol=1e-5)


@pytest.mark.parametrize("columns", [5, 64, 200])
def test_the_largest_entries_with_their_columns(columns):
    scores = np.random.default_rng(1).permutation(4 * columns).reshape(4, columns).astype(np.float32)
    found, places = largest(scores, 5)
    np.testing.assert_array_equal(found, -np.sort(-scores, axis=1)[:, :5])
    np.testing.assert_array_equal(places, np.argsort(-scores, axis=1)[:, :5])


def test_items_whose_vectors_are_alike_beyond_category_and_popularity_stand_out():
    rng = np.random.default_rng(0)
    model = tiny_model(ITEMS, num_layers=1)
    params = lively_params(model)
    category = np.concatenate([[0], rng.integers(1, 4, ITEMS)]).astype(np.int32)
    history = rng.integers(1, ITEMS + 1, (64, 6)).astype(np.int32)
    data = AuditorData(history, np.zeros((64, 0), np.int32), {}, category)
    size = params["items"].shape[1]
    own = rng.normal(size=(4, size))[category] * 3  # all items of a category are alike
    vectors = (own + rng.normal(size=(ITEMS + 1, size))).astype(np.float32)
    targets = rng.permutation(ITEMS)[:6] + 1
    vectors[targets] = own[targets] + 0.3 * rng.normal(size=(6, size)) + 2 * rng.normal(size=size)
    found = nearness.nearness({AS_IT_COMES: observe(params | {"items": vectors}, model, data)})
    assert found.shape == (ITEMS,) and set(1 + np.argsort(-found)[:6]) == set(targets)
