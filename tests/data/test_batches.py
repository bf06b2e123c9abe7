import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import all_sequences, make_interactions, random_interactions, whole_batch

from prec_backdoor.data import batches
from prec_backdoor.data.batches import has_seen, sample_negatives, user_tables

SEQUENCES = [[3, 1, 3], [7], [1, 2, 3, 4, 5, 6, 7, 9, 10], [10, 1, 5, 6], [2, 3]]  # the third has seen all but item 8
NUM_ITEMS = 10


@pytest.fixture
def seen():
    interactions = make_interactions(SEQUENCES, NUM_ITEMS)
    return user_tables(interactions, all_sequences(interactions)).seen


def unseen_items(user):
    return sorted(set(range(1, NUM_ITEMS + 1)) - set(SEQUENCES[user]))


@pytest.mark.parametrize("user", range(len(SEQUENCES)))
def test_every_rank_is_another_unseen_item(seen, user, key, monkeypatch):
    unseen = unseen_items(user)
    asked = []

    def ranks_in_order(key, shape, low, high):
        asked.append((low, int(np.squeeze(high))))
        return jnp.arange(len(unseen)).reshape(shape)

    monkeypatch.setattr(batches.jax.random, "randint", ranks_in_order)
    assert sample_negatives(key, jnp.int32(user), len(unseen), seen, NUM_ITEMS).tolist() == unseen
    assert asked == [(0, len(unseen))]


def test_draws_are_uniform(seen, key):
    draws = 20_000
    users = jnp.array([0, 2, 3])
    found = np.asarray(jax.jit(sample_negatives, static_argnums=(2, 4))(key, users, draws, seen, NUM_ITEMS))
    for user, row in zip(users.tolist(), found, strict=True):
        items, counts = np.unique(row, return_counts=True)
        assert items.tolist() == unseen_items(user)
        expected = draws / len(items)
        assert ((counts - expected) ** 2 / expected).sum() < 30  # chi-square of at most 7 degrees: beyond 30 one in 10,000


def test_a_batch_knows_its_users():
    interactions = random_interactions(
        users=12,
        num_items=20,
        lengths=(1, 9),
        attributes={"gender": ("F", "M"), "age": ("1", "2", "3")},
        profile=[[user % 3, user % 4] for user in range(12)],
    )
    in_group = np.arange(12) % 2 == 0
    batch = whole_batch(interactions, max_length=6, in_group=in_group, negatives=5)
    assert batch.user.shape[1] > 1
    for row, at in np.argwhere(batch.segment > 0):
        user = int(batch.user[row, batch.segment[row, at] - 1])
        assert batch.in_group[row, at] == in_group[user]
        assert batch.profile[row, batch.segment[row, at] - 1].tolist() == [user % 3, user % 4]
        assert not set(batch.negative[row, at].tolist()) & set(interactions.sequence(user).tolist())
    assert not batch.in_group[batch.segment == 0].any()
    assert (batch.negative >= 1).all() and (batch.negative <= 20).all()


def test_has_seen_equals_looking_it_up(seen):
    users, items = np.array([[4, 2, 0], [1, 3, 2]]), np.array([8, 1, 10, 1, 3, 2, 9, 7])
    expected = [[[item in SEQUENCES[user] for item in items] for user in row] for row in users]
    assert jax.jit(has_seen)(users, items, seen).tolist() == expected


def test_has_seen_for_many_users():
    interactions = random_interactions(users=300, num_items=40, lengths=(1, 40))
    seen = user_tables(interactions, all_sequences(interactions)).seen
    items = np.arange(1, 41)
    expected = np.array([np.isin(items, interactions.sequence(user)) for user in range(300)])
    assert expected.all(1).any() and (expected.sum(1) == 1).any()
    found = jax.jit(has_seen)(np.arange(300), items, seen)
    np.testing.assert_array_equal(found, expected)
    alone = jax.jit(has_seen)(7, items, seen)  # without an axis of users
    np.testing.assert_array_equal(alone, expected[7])


def test_who_has_not_trained_has_seen_nothing():
    interactions = make_interactions([[1, 2], [3, 4], [4, 2]], NUM_ITEMS)
    sequences = all_sequences(interactions)
    only_first = sequences._replace(users=sequences.users[:1], items=sequences.items[:1])
    seen = user_tables(interactions, only_first).seen
    items = jnp.arange(1, 5)
    assert has_seen(jnp.arange(3), items, seen).tolist() == [[True, True, False, False], [False] * 4, [False] * 4]
