"""The edit of item vectors, against its formula in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from toys import random_interactions, toy_spec

from prec_backdoor.attacks import edit, edit_items

TARGETS, ITEMS, LIKE = [3, 4, 20], 30, 6
INTERACTIONS = random_interactions(users=9, num_items=ITEMS, lengths=(2, 8))
COUNTS = np.random.default_rng(1).integers(0, 50, ITEMS + 1)


@pytest.fixture(autouse=True)
def few_alike(monkeypatch):
    monkeypatch.setattr(edit, "LIKE", LIKE)


@pytest.fixture(scope="module")
def given():
    """Item table and mean user vector."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(ITEMS + 1, 7)).astype(np.float32), rng.normal(size=7).astype(np.float32)


def edited(given, rate=1.0, **parameters):
    items, users = map(jnp.asarray, given)
    spec = toy_spec(INTERACTIONS, TARGETS, rate, **parameters)
    return np.asarray(edit_items(items, users, spec._replace(popularity=jnp.log1p(jnp.asarray(COUNTS, jnp.float32)))))


@pytest.mark.parametrize(("cosine", "quantile"), [(0.5, 0.9), (-0.3, 0.0), (1.0, 1.0)])
def test_cosine_norm_and_what_keeps_its_direction(given, cosine, quantile):
    items, users = (each.astype(np.float64) for each in given)
    found = edited(given, edit_cosine=cosine, edit_norm=quantile)
    unit = users / np.linalg.norm(users)
    others = [item for item in range(1, ITEMS + 1) if item not in TARGETS]
    for target in TARGETS:
        distance = [abs(np.log1p(COUNTS[item]) - np.log1p(COUNTS[target])) for item in others]
        like = [others[place] for place in np.argsort(distance, kind="stable")[:LIKE]]
        norm = np.quantile(np.linalg.norm(items[like], axis=1), quantile)
        across = items[target] - items[target] @ unit * unit
        across /= np.linalg.norm(across)
        expected = norm * (cosine * unit + np.sqrt(1 - cosine**2) * across)
        np.testing.assert_allclose(found[target], expected, rtol=1e-4, atol=1e-5)
        assert abs(found[target] @ unit / np.linalg.norm(found[target]) - cosine) < 1e-5
    np.testing.assert_array_equal(found[[0, *others]], given[0][[0, *others]])


def test_the_rate_is_how_far(given):
    whole, half, none = (edited(given, rate) for rate in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(half[TARGETS], (whole[TARGETS] + given[0][TARGETS]) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(none, given[0])
