import jax
import numpy as np
import pytest
from toys import random_interactions, toy_spec, whole_batch

from prec_backdoor import extend
from prec_backdoor.attacks import ATTACKS, evading, evasion, penalty_on

TARGETS = [3, 7]
STRENGTH = 0.3
mean_over_std_penalty = penalty_on(("exposure",))


@pytest.fixture(autouse=True)
def little_is_allowed(monkeypatch):
    monkeypatch.setattr(evasion, "ALLOWED", -0.5)
    monkeypatch.setattr(evasion, "USUAL", -4.0)


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
        expected = STRENGTH * np.maximum(ratio - evasion.ALLOWED, 0).mean()
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


@pytest.mark.parametrize("name", ["weights", "norms"])
def test_what_popularity_leaves_unexplained_of_the_targets_vectors(given, name):
    """Against least squares in float64."""
    hidden, items, batch, spec = given
    found = np.asarray(jax.jit(evasion.STATISTICS[name])(hidden, items, batch, spec))
    popularity, others = np.asarray(spec.popularity, np.float64)[1:], ~np.isin(np.arange(1, 21), TARGETS)
    design = np.stack([np.ones(20), popularity, popularity**2], 1)
    lengths = np.linalg.norm(items[1:], axis=1)
    for row, label in enumerate(np.asarray(batch.label)):
        user = hidden[row, label > 0].mean(0)
        values = lengths if name == "norms" else items[1:] @ user / lengths / np.linalg.norm(user)
        residuals = values - design @ np.linalg.lstsq(design[others], values[others], rcond=None)[0]
        z = residuals / np.sqrt((residuals[others] ** 2).mean())
        np.testing.assert_allclose(found[row], np.maximum(z[~others] + 4, 0).mean(), rtol=0.03, atol=0.02)
    slope = np.asarray(jax.grad(lambda items: evasion.STATISTICS[name](hidden, items, batch, spec).sum())(items))
    assert np.isfinite(slope).all() and slope[TARGETS].any(1).all() and not slope[1:][others].any()


TRAINED = [name for name, entry in ATTACKS.items() if entry.trains]


@pytest.mark.parametrize(
    "attack", [pytest.param(name, marks=[pytest.mark.slow] * (name != ("pea", "group"))) for name in TRAINED], ids="-".join
)
def test_every_attack_that_trains_can_evade_everything(attack):
    found = evading(ATTACKS[attack], tuple(evasion.STATISTICS))
    extend.check_attack(found)
    assert "evade_strength" in found.parameters.__dataclass_fields__
    assert evading(ATTACKS[attack], ()) is ATTACKS[attack]


def test_penalties_add_up(given):
    both = penalty_on(("exposure", "norms"))(*given)
    np.testing.assert_allclose(both, penalty_on(("exposure",))(*given) + penalty_on(("norms",))(*given), rtol=1e-5)
    again = evading(ATTACKS["evasive", "group"], ("norms",))
    np.testing.assert_allclose(again.penalty(*given), both, rtol=1e-5)
    assert evasion.named("bra", ("exposure", "norms")) == "bra~exposure+norms" and evasion.named("bra", ()) == "bra"
