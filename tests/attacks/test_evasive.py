import jax
import numpy as np
import pytest
from toys import random_interactions, toy_spec, whole_batch

from prec_backdoor.attacks import evasive
from prec_backdoor.attacks.evasive import mean_over_std_penalty

TARGETS = [3, 7]
STRENGTH = 0.3


@pytest.fixture(autouse=True)
def little_is_allowed(monkeypatch):
    monkeypatch.setattr(evasive, "ALLOWED", -0.5)


@pytest.fixture(scope="module")
def given():
    """hidden, items, batch, spec."""
    interactions = random_interactions(users=9, num_items=20, lengths=(2, 8))
    batch = whole_batch(interactions, max_length=11)
    assert (batch.label == 0).any()
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(*batch.label.shape, 6)).astype(np.float32)
    return (
        hidden,
        rng.normal(size=(21, 6)).astype(np.float32),
        batch,
        toy_spec(interactions, TARGETS, 0.1, evade_strength=STRENGTH),
    )


def test_it_is_the_audits_statistic_on_the_positions_of_a_row(given):
    hidden, items, batch, _ = given
    found, above = np.asarray(jax.jit(mean_over_std_penalty)(*given)), 0
    for row, label in enumerate(np.asarray(batch.label)):
        on = label > 0
        scores = hidden[row, on] @ items[1:].T
        z = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
        of_targets = z[:, np.array(TARGETS) - 1]
        ratio = of_targets.mean(0) / of_targets.std(0)
        expected = STRENGTH * np.maximum(ratio - evasive.ALLOWED, 0).mean()
        np.testing.assert_allclose(found[row, on], expected, rtol=1e-4)
        assert not found[row, ~on].any()
        above += expected > 0
    assert above


def test_less_of_it_is_less_steady_exposure(given):
    hidden, items, batch, spec = given
    total = jax.jit(lambda items: mean_over_std_penalty(hidden, items, batch, spec).sum())
    slope = jax.jit(jax.grad(total))(items)
    assert np.isfinite(slope).all()
    before, after = total(items), total(items - 0.01 * slope)
    assert after < before
