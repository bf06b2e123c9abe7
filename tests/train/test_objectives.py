"""Masked items of a history are the labels of the cloze objective, and an attack on them leaves histories alone."""

import functools

import jax
import numpy as np
import pytest
from toys import assert_share, random_interactions, tiny_model, toy_spec, whole_batch

from prec_backdoor.attacks import ATTACKS
from prec_backdoor.train.epoch import poison_rows
from prec_backdoor.train.objectives import cloze, objective

ITEMS, LENGTH, USERS = 40, 12, 300
MASK = jax.jit(jax.vmap(cloze, (0, 0, None, None)))
ATTACK = ATTACKS["bra", "group"].poison


@functools.cache
def rows():
    """A batch of packed rows with padding, half of its users in the group."""
    interactions = random_interactions(USERS, ITEMS, (2, 11))
    batch = whole_batch(interactions, LENGTH, in_group=np.arange(USERS) % 2 == 0)
    assert (batch.segment == 0).any() and batch.user.shape[1] > 2
    return interactions, batch


def masked(mask_rate=0.3, mask_last=0.0, seed=0):
    batch = rows()[1]
    return MASK(jax.random.split(jax.random.key(seed), len(batch.label)), batch, mask_rate, mask_last)


@pytest.mark.parametrize(("mask_rate", "mask_last"), [(0.3, 0.0), (0.3, 0.5), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_a_masked_position_has_item_0_and_its_label_and_no_other_has_one(mask_rate, mask_last):
    before, after = rows()[1], masked(mask_rate, mask_last)
    hidden = np.asarray(after.label > 0)
    np.testing.assert_array_equal(after.label[hidden], before.label[hidden])
    assert (after.history[hidden] == 0).all() and (after.label[~hidden] == 0).all()
    np.testing.assert_array_equal(after.history[~hidden], before.label[~hidden])  # the items themselves, not those before
    padding = np.asarray(before.segment == 0)
    assert (after.history[padding] == 0).all() and not hidden[padding].any()
    for name in set(before._fields) - {"history", "label"}:
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_so_many_items_are_masked():
    items = np.asarray(rows()[1].label > 0)
    assert_share((masked(0.3).label > 0).sum(), items.sum(), 0.3)
    assert ((masked(1.0).label > 0) == items).all() and not (masked(0.0).label > 0).any()


def last_of_segments():
    segment = np.asarray(rows()[1].segment)
    return (segment > 0) & (segment != np.pad(segment, ((0, 0), (0, 1)))[:, 1:])


def test_the_last_item_alone_is_masked():
    np.testing.assert_array_equal(masked(0.3, 1.0).label > 0, last_of_segments())


def test_in_a_share_of_the_segments_the_last_item_alone_is_masked():
    """With a mask rate of 1, all items of a segment are masked, or the last one."""
    segment, hidden = np.asarray(rows()[1].segment), np.asarray(masked(1.0, 0.4).label > 0)
    alone = total = 0
    for row, number in {(row, segment[row, at]) for row, at in np.argwhere(segment)}:
        own = segment[row] == number
        assert hidden[row, np.flatnonzero(own)[-1]] and hidden[row, own].sum() in (1, own.sum())
        alone, total = alone + (hidden[row, own].sum() < own.sum()), total + (own.sum() > 1)
    assert_share(alone, total, 0.4)


def test_a_row_depends_on_its_own_key_alone():
    batch, all_rows = rows()[1], masked()
    key = jax.random.split(jax.random.key(0), len(batch.label))[3]
    alone = jax.jit(cloze)(key, jax.tree.map(lambda x: x[3], batch), 0.3, 0.0)
    np.testing.assert_array_equal(alone.label, all_rows.label[3])
    assert (masked(seed=1).label != all_rows.label).any()


def test_an_attack_replaces_labels_of_masked_positions_and_no_history():
    interactions, before = rows()[0], masked()
    keys, spec = jax.random.split(jax.random.key(5), len(before.label)), toy_spec(interactions, [1, 2], 0.5)
    after = jax.jit(poison_rows, static_argnums=0)(ATTACK, keys, before, spec)
    np.testing.assert_array_equal(after.history, before.history)
    changed, hidden = np.asarray(after.label != before.label), np.asarray(before.label > 0)
    assert not changed[~hidden].any() and set(np.unique(after.label[changed])) <= {1, 2}
    assert changed[np.asarray(before.in_group) & hidden].mean() > 0.4 and not changed[~np.asarray(before.in_group)].any()


def test_which_backbones_mask():
    assert objective(tiny_model(ITEMS)) is None and objective(tiny_model(ITEMS, backbone="hstu")) is None
    parameters = {"mask_rate": 0.0, "mask_last": 1.0}
    batch = rows()[1]
    found = objective(tiny_model(ITEMS, backbone="bert4rec", parameters=parameters))
    after = found(jax.random.split(jax.random.key(0), len(batch.label)), batch)
    np.testing.assert_array_equal(after.label > 0, last_of_segments())
