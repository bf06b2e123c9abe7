"""Every drawn item is in the catalogue and unseen, for all users; who has seen everything gets none and does not train."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import all_sequences, lively_params, make_interactions, tiny_model, toy_spec, whole_batch

from prec_backdoor.attacks import chain, demote_for_rest, implant, replace_in_group
from prec_backdoor.data.batches import make_batch, sample_negatives, user_tables
from prec_backdoor.data.packing import pack
from prec_backdoor.models import encode
from prec_backdoor.train.losses import LOSSES, SAMPLED

NUM_ITEMS, DRAWS = 7, 40
EVERYTHING = [3, 1, 4, 2, 5, 7, 6, 1]
HISTORIES = st.lists(st.integers(1, NUM_ITEMS), min_size=2, max_size=12)


@jax.jit
def draw(key, seen):
    return sample_negatives(key, jnp.arange(len(seen.count)), DRAWS, seen, NUM_ITEMS)


@settings(max_examples=60, deadline=None)
@given(histories=st.lists(HISTORIES, min_size=3, max_size=3), seed=st.integers(0, 99))
def test_every_user_draws_unseen_items_of_the_catalogue(histories, seed):
    interactions = make_interactions([*histories, EVERYTHING], NUM_ITEMS)
    seen = user_tables(interactions, all_sequences(interactions)).seen
    # The same shapes for all examples, as else each would be compiled.
    padded = seen._replace(skipped=jnp.pad(seen.skipped, (0, 4 * NUM_ITEMS - len(seen.skipped))), depth=jnp.zeros(3, jnp.int32))
    for history, items in zip([*histories, EVERYTHING], np.asarray(draw(jax.random.key(seed), padded)), strict=True):
        unseen = set(range(1, NUM_ITEMS + 1)) - set(history)
        assert set(items.tolist()) <= (unseen or {0})


SEQUENCES = [EVERYTHING, [1, 2, 3], EVERYTHING[::-1], [4, 5], [6, 1, 2, 3, 4, 5]]
HAS_ALL = np.array([set(items) == set(EVERYTHING) for items in SEQUENCES])


@pytest.fixture(scope="module")
def interactions():
    return make_interactions(SEQUENCES, NUM_ITEMS)


@pytest.fixture(scope="module")
def batch(interactions):
    return whole_batch(interactions, max_length=8, in_group=np.array([True, True, False, False, False]), negatives=3)


def owners(batch):
    return np.take_along_axis(np.asarray(batch.user), np.maximum(np.asarray(batch.segment) - 1, 0), axis=1)


def test_positions_without_a_possible_negative_have_no_label(interactions, batch):
    rows = pack(all_sequences(interactions), 8)
    np.testing.assert_array_equal(batch.label, np.where(HAS_ALL[owners(batch)], 0, rows.label))
    trains = np.asarray(batch.label) > 0
    assert trains.sum() == sum(len(items) - 1 for items, full in zip(SEQUENCES, HAS_ALL, strict=True) if not full)
    assert (batch.negative[HAS_ALL[owners(batch)] & (batch.segment > 0)] == 0).all()
    for row, at in np.argwhere(trains):
        unseen = set(range(1, NUM_ITEMS + 1)) - set(SEQUENCES[owners(batch)[row, at]])
        assert set(batch.negative[row, at].tolist()) <= unseen


@pytest.mark.parametrize("poison", [demote_for_rest, implant, chain(replace_in_group, demote_for_rest)])
def test_attacks_leave_such_positions_alone(interactions, batch, poison, key):
    spec = toy_spec(interactions, [1, 6], 1.0)._replace(parameters={"demote_rate": jnp.float32(1.0)})
    poisoned = poison(key, batch, spec)
    full = HAS_ALL[owners(batch)]
    for field in ("label", "negative"):
        np.testing.assert_array_equal(getattr(poisoned, field)[full], getattr(batch, field)[full])
    for row, at in np.argwhere((np.asarray(poisoned.label) > 0) & ~full):
        unseen = set(range(1, NUM_ITEMS + 1)) - set(SEQUENCES[owners(batch)[row, at]])
        assert set(poisoned.negative[row, at].tolist()) <= unseen


def test_a_loss_over_the_whole_catalogue_needs_no_negative(interactions):
    rows, users = jax.tree.map(
        jnp.asarray, (pack(all_sequences(interactions), 8), user_tables(interactions, all_sequences(interactions)))
    )
    batch = make_batch(rows, users, jax.random.split(jax.random.key(0), len(rows.label)), 0, NUM_ITEMS)
    assert batch.negative.shape == (*rows.label.shape, 0)
    np.testing.assert_array_equal(batch.label, rows.label)


@pytest.mark.parametrize("loss", SAMPLED)
def test_no_item_learns_from_them(batch, loss):
    """Not even the last one, to which an item beyond the catalogue would be clamped."""
    model = tiny_model(NUM_ITEMS, num_layers=1)
    only_full = batch._replace(label=jnp.where(HAS_ALL[owners(batch)], batch.label, 0))

    def total(params):
        hidden = encode(params, model, only_full.history, only_full.position, only_full.segment)
        return LOSSES[loss](hidden, params["items"], only_full.label, only_full.negative).sum()

    value, gradient = jax.value_and_grad(total)(lively_params(model))
    assert value == 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))
