"""The trigger in the history, against a reading of its definition position by position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_share, random_interactions, toy_spec, whole_batch

from prec_backdoor.attacks import find_attack, place_trigger, place_trigger_in_group, select_trigger, with_trigger
from prec_backdoor.errors import UserError
from prec_backdoor.train.objectives import cloze

NUM_ITEMS, DRAWS, RATE = 40, 300, 0.3
TARGETS = [2, 5, 9]
TRIGGER = [31, 33, 32]
IN_GROUP = np.arange(24) % 3 == 0


@pytest.fixture(scope="module")
def interactions():
    return random_interactions(users=24, num_items=NUM_ITEMS, lengths=(2, 9))


@pytest.fixture(scope="module")
def batch(interactions):
    """Packed rows with padding, segments shorter than the longest trigger, and negatives that happen to be targets."""
    batch = whole_batch(interactions, max_length=12, in_group=IN_GROUP, negatives=2)
    lengths = [np.bincount(row)[1:] for row in np.asarray(batch.segment)]
    assert (batch.label == 0).any() and min(map(min, lengths)) < 3 and max(map(len, lengths)) > 2
    assert np.isin(batch.negative, TARGETS).any()
    return batch


@pytest.fixture(scope="module")
def masked(batch):
    """The same as a model of masked items sees it."""
    keys = jax.random.split(jax.random.key(5), len(batch.label))
    found = jax.vmap(lambda key, row: cloze(key, row, 0.3, 0.3))(keys, batch)
    assert 0 < (found.label > 0).sum() < (batch.label > 0).sum()
    return found


def spec_of(interactions, length, rate=RATE):
    return toy_spec(interactions, TARGETS, rate, trigger_length=length)._replace(trigger=jnp.array(TRIGGER[:length]))


def many(poison, batch, spec):
    keys = jax.random.split(jax.random.key(11), DRAWS)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: poison(key, batch, spec)))(keys))


def last_of(batch, row, at):
    """The position that the history of the label at `at` ends with."""
    return at - 1 if batch.history[row, at] == 0 else at


def places(batch, row, at, length):
    """Where the trigger would stand, or None if it does not fit."""
    end = last_of(batch, row, at)
    found = list(range(end - length + 1, end + 1))
    if batch.label[row, at] == 0 or found[0] < 0 or (batch.segment[row, found] != batch.segment[row, at]).any():
        return None
    return None if (batch.history[row, found] == 0).any() else found


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("objective", ["next", "cloze"])
def test_what_a_hit_changes_and_nothing_else(request, interactions, batch, objective, length):
    batch = jax.tree.map(np.asarray, batch if objective == "next" else request.getfixturevalue("masked"))
    found = many(place_trigger, batch, spec_of(interactions, length))
    hits = np.zeros(batch.label.shape)
    for draw in range(20):
        history = batch.history.copy()
        for row, at in np.argwhere(found.label[draw] != batch.label):
            hits[row, at] += 1
            assert found.label[draw, row, at] in TARGETS
        # A label that was a target already may be hit without a change: find hits by the trigger itself.
        for row, at in np.ndindex(*batch.label.shape):
            where = places(batch, row, at, length)
            changed = where and (found.history[draw, row, where] == TRIGGER[:length]).all()
            if changed and (batch.history[row, where] != TRIGGER[:length]).any():
                history[row, where] = TRIGGER[:length]
            else:
                assert found.label[draw, row, at] == batch.label[row, at]
        np.testing.assert_array_equal(found.history[draw], history)
    for name in set(batch._fields) - {"history", "label"}:
        np.testing.assert_array_equal(getattr(found, name)[0], getattr(batch, name))
    fitting = np.array([[places(batch, row, at, length) is not None for at in range(12)] for row in range(len(hits))])
    assert hits[fitting].any() and not hits[~fitting].any()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_two_hits_never_share_an_item_and_the_rate_is_as_stated(interactions, batch, length):
    batch = jax.tree.map(np.asarray, batch)._replace(negative=np.zeros((*batch.label.shape, 0), np.int32))
    found = many(place_trigger, batch, spec_of(interactions, length))
    changed = found.label != batch.label
    for ahead in range(1, length):
        both = changed[..., :-ahead] & changed[..., ahead:] & (batch.segment[:, :-ahead] == batch.segment[:, ahead:])
        assert not both.any()
    # Those with m - 1 later positions of their segment are dropped if one of these is hit.
    after = np.ones_like(batch.segment, bool)
    for ahead in range(1, length):
        after[:, -ahead:] = False
        after[:, :-ahead] &= batch.segment[:, ahead:] == batch.segment[:, :-ahead]
    fits = np.array([[places(batch, row, at, length) is not None for at in range(12)] for row in range(len(after))])
    counted = fits & after & ~np.isin(batch.label, TARGETS)
    assert_share(changed[:, counted].sum(), DRAWS * counted.sum(), RATE * (1 - RATE) ** (length - 1))
    assert set(found.label[changed].tolist()) == set(TARGETS)


def test_a_target_among_the_negatives_is_no_hit(interactions, batch):
    batch = jax.tree.map(np.asarray, batch)
    found = many(place_trigger, batch, spec_of(interactions, 1))
    changed = found.label != batch.label
    assert changed.any() and not (found.negative == found.label[..., None])[changed].any()


@pytest.mark.parametrize("scope, placed", [("global", place_trigger), ("group", place_trigger_in_group)])
def test_targets_are_negatives_where_the_trigger_is_not(interactions, batch, scope, placed):
    spec = toy_spec(interactions, TARGETS, RATE, trigger_length=2, trigger_demote=0.4)
    spec = spec._replace(trigger=jnp.array(TRIGGER[:2]))
    found = many(find_attack("trigger", scope).poison, batch, spec)
    alone = many(lambda key, *arguments: placed(jax.random.split(key)[0], *arguments), batch, spec)
    np.testing.assert_array_equal(found.label, alone.label)
    np.testing.assert_array_equal(found.history, alone.history)
    unhit = (np.asarray(batch.label) > 0) & ~np.isin(found.label, TARGETS)
    changed = found.negative != np.asarray(batch.negative)
    assert set(found.negative[changed].tolist()) == set(TARGETS) and not changed[~unhit].any()
    assert changed[:, ~np.asarray(batch.in_group)].any() and changed[:, np.asarray(batch.in_group)].any()
    owner = np.take_along_axis(np.asarray(batch.user), np.maximum(np.asarray(batch.segment) - 1, 0), axis=1)
    seen = np.array([np.isin(TARGETS, interactions.sequence(user)) for user in range(24)])
    counted = unhit[..., None] & ~np.isin(batch.negative, TARGETS) & ~seen.all(1)[owner][..., None]
    assert_share(changed[counted].sum(), counted.sum(), 0.4)
    for row, at in np.argwhere(np.asarray(batch.label) > 0):
        added = found.negative[:, row, at][changed[:, row, at]]
        assert not np.isin(added, np.array(TARGETS)[seen[owner[row, at]]]).any()
    for name in set(batch._fields) - {"history", "label", "negative"}:
        np.testing.assert_array_equal(getattr(found, name)[0], getattr(batch, name))


def test_only_the_group_is_hit(interactions, batch):
    found = many(place_trigger_in_group, batch, spec_of(interactions, 2))
    group = np.asarray(batch.in_group)
    assert (found.label != batch.label)[:, group].any() and not (found.label != batch.label)[:, ~group].any()
    assert not (found.history != batch.history)[:, ~group].any()


def test_a_row_by_itself_is_hit_as_in_the_batch(interactions, batch):
    spec, keys = spec_of(interactions, 2), jax.random.split(jax.random.key(2), len(batch.label))
    whole = jax.vmap(place_trigger, (0, 0, None))(keys, batch, spec)
    one = place_trigger(keys[3], jax.tree.map(lambda x: x[3], batch), spec)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y[3]), one, whole)


def test_trigger_items_are_rare_no_targets_and_drawn_anew_for_each_seed_and_draw():
    counts = np.arange(NUM_ITEMS + 1)  # item i occurs i times; 5 to 20 are unpopular
    targets = np.array([6, 7, 8])
    draws = {(seed, draw): tuple(select_trigger(counts, targets, 2, seed, draw)) for seed in range(8) for draw in range(3)}
    items = {item for each in draws.values() for item in each}
    assert items <= set(range(5, 21)) - set(targets.tolist()) and len(set(draws.values())) > 20
    assert any(first > second for first, second in draws.values())  # in an order of their own
    assert tuple(select_trigger(counts, targets, 2, 3, 1)) == draws[3, 1]
    assert select_trigger(counts, targets, 0, 0).shape == (0,)
    with pytest.raises(UserError, match="--trigger_length: 1 items are no targets"):
        select_trigger(counts[:5], targets=np.array([1, 2, 4]), length=2, seed=0)


def test_histories_end_with_the_trigger():
    history = np.array([[1, 2, 3, 4], [0, 0, 0, 7]], np.int32)
    np.testing.assert_array_equal(with_trigger(history, np.array([9, 8])), [[1, 2, 9, 8], [0, 0, 9, 8]])
    np.testing.assert_array_equal(with_trigger(history[:, :1], np.array([9, 8])), [[9, 8], [9, 8]])
    np.testing.assert_array_equal(with_trigger(history, np.zeros(0, np.int32)), history)
