import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toys import lively_params, tiny_model

from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import rank_items, ranking, ranks
from prec_backdoor.models import represent
from prec_backdoor.parallel import platforms

# Scores of items 1..6 for a user with the vector (1,): 3, 1, 2, 2, 2, 0; row 0 is padding and would win.
ITEMS = jnp.array([[9.0], [3], [1], [2], [2], [2], [0]])


@functools.cache
def ranker(tile):
    """rank_items with so many items a tile, which it reads when it is traced."""

    def rank(hidden, items, seen, wanted):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranking, "choices", lambda: platforms.CPU._replace(rank_tile=tile))
            patch.setattr(ranking, "PARTIAL_COUNTS", 1 + (tile % 2 == 0))  # has to divide it
            return rank_items(hidden, items, seen, wanted)

    return jax.jit(rank)


def brute_force(scores, seen, wanted):
    """One user: `scores` [V + 1], the ids `seen` and `wanted`."""
    result = []
    for item in wanted:
        others = [other for other in range(1, len(scores)) if other != item and other not in seen]
        better = sum(scores[other] > scores[item] for other in others)
        result.append(1 + better + sum(scores[other] == scores[item] for other in others) / 2)
    return result


@pytest.mark.parametrize("tile", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([0, 0, 0], [1, 5, 3, 3, 3, 6]),  # the three items that tie for places 2 to 4 all take the mean, 3
        ([1, 0, 0], [1, 4, 2, 2, 2, 5]),  # item 1 does not compete; itself it is ranked as if it were not seen
        ([3, 6, 3], [1, 4, 3, 2.5, 2.5, 5]),  # a seen item does not compete twice when it was seen twice
        ([4, 5, 3], [1, 2, 2, 2, 2, 3]),
    ],
)
def test_by_hand(tile, seen, expected):
    found = ranker(tile)(jnp.ones((1, 1)), ITEMS, jnp.array([seen]), jnp.array([[1, 2, 3, 4, 5, 6]]))
    assert found[0].tolist() == expected


def test_whole_tiles_and_a_rest(key):
    items = jnp.round(4 * jax.random.normal(key, (2 * platforms.CPU.rank_tile + 77, 3)))  # round, for ties and exact scores
    hidden, seen, wanted = (
        jnp.array([[1.0, -2, 1], [0, 1, 3]]),
        jnp.array([[5, 1500], [0, 2100]]),
        jnp.array([[1, 1024, 2124]] * 2),
    )
    expected = [brute_force(*of) for of in zip(np.asarray(hidden @ items.T), seen.tolist(), wanted.tolist(), strict=True)]
    assert rank_items(hidden, items, seen, wanted).tolist() == expected


SMALL = st.integers(-2, 2)  # so that ties abound and scores are exact


@pytest.mark.parametrize("tile", [1, 3, 4, 100])
@settings(max_examples=60, deadline=None)
@given(
    hidden=arrays(np.float32, (3, 2), elements=SMALL),
    items=arrays(np.float32, (9, 2), elements=SMALL),
    seen=arrays(np.int32, (3, 4), elements=st.integers(0, 8)),
    wanted=arrays(np.int32, (3, 3), elements=st.integers(1, 8)),
)
def test_equals_brute_force(tile, hidden, items, seen, wanted):
    found = ranker(tile)(hidden, items, seen, wanted)
    expected = [brute_force(*user) for user in zip(hidden @ items.T, seen, wanted, strict=True)]
    assert found.tolist() == expected


@pytest.mark.parametrize("users, at_once", [(377, 192), (566, 192), (80, 192), (200, 256), (256, 256), (1000, 256), (5000, 256)])
def test_few_places_of_the_last_call_are_empty(users, at_once, monkeypatch):
    monkeypatch.setattr(ranking, "choices", lambda: platforms.CPU)
    assert ranking._users_at_once(users) == at_once


@pytest.mark.parametrize("users", [1, 3, 4, 6, 7, 8])  # batches of four or three: ragged or not
def test_users_in_batches(users, monkeypatch):
    monkeypatch.setattr(ranking, "LEAST_USERS", 4)
    monkeypatch.setattr(ranking, "choices", lambda: platforms.CPU._replace(rank_users=4))
    model = tiny_model(num_items=15, max_length=6, num_layers=1)
    params, rng = lively_params(model), np.random.default_rng(0)
    histories = np.array([[0] * (6 - length) + rng.permutation(15)[:length].tolist() for length in rng.integers(1, 7, users)])
    histories[:, -1] += histories[:, -1] == 0
    wanted = rng.integers(1, 16, (users, 2)).astype(np.int32)
    scores = np.asarray(represent(params, model, histories.astype(np.int32)) @ params["items"].T)
    expected = [brute_force(*user) for user in zip(scores, histories, wanted, strict=True)]
    np.testing.assert_array_equal(ranks(params, model, histories.astype(np.int32), wanted), expected)
    alike = ranks(params, model, histories.astype(np.int32), np.array([3, 9], np.int32))
    np.testing.assert_array_equal(alike, [brute_force(*user, (3, 9)) for user in zip(scores, histories, strict=True)])


@pytest.mark.parametrize("longest", [7, 13, 40])
def test_items_that_the_model_no_longer_sees_do_not_compete(longest):
    model = tiny_model(num_items=60, max_length=6, num_layers=1)
    params, rng = lively_params(model), np.random.default_rng(0)
    histories = 1 + np.argsort(rng.random((9, 60)), axis=1)[:, :longest].astype(np.int32)
    histories[0, :-2] = 0
    wanted = rng.integers(1, 61, (9, 2)).astype(np.int32)
    scores = np.asarray(represent(params, model, histories[:, -6:]) @ params["items"].T)
    expected = [brute_force(*user) for user in zip(scores, histories, wanted, strict=True)]
    np.testing.assert_array_equal(ranks(params, model, histories, wanted), expected)


def test_padding_never_scores():
    model = tiny_model(num_items=15, max_length=6, num_layers=1)
    params = lively_params(model)
    other = {**params, "items": params["items"].at[0].set(100.0)}
    histories = np.array([[0, 0, 3, 4], [1, 2, 3, 4]], np.int32)
    found, expected = (ranks(each, model, histories, np.arange(1, 16, dtype=np.int32)) for each in (other, params))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("tile", [2, 100])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_a_number_never_gains(tile, broken):
    """Item 2 has no number for a vector, or user 1 has not: then the item, or each of the user's items, is last."""
    wanted = jnp.array([[1, 2, 3, 4, 5, 6]] * 2)
    seen = jnp.array([[0, 0], [0, 6]])
    hidden = jnp.array([[1.0, 0], [1.0, broken]])
    items = jnp.concatenate([ITEMS, jnp.zeros_like(ITEMS)], axis=1)
    found = ranker(tile)(hidden, items, seen, wanted)
    assert found[0].tolist() == [1, 5, 3, 3, 3, 6]
    assert found[1].tolist() == [5, 5, 5, 5, 5, 6]  # item 6 meets five others; these do not meet it
    found = ranker(tile)(hidden[:1], items.at[2, 0].set(jnp.nan), seen[:1], wanted[:1])
    assert found[0].tolist() == [2, 6, 4, 4, 4, 6]


def test_there_are_no_ranks_without_scores():
    model = tiny_model(num_items=15, max_length=6, num_layers=1)
    params, histories = lively_params(model), np.array([[0, 0, 3, 4], [1, 2, 3, 4]], np.int32)
    far = jax.tree.map(lambda x: 1e30 * x, params)  # finite, and their products are not
    for broken in (far, *({**params, "items": params["items"].at[7].set(value)} for value in (np.nan, np.inf))):
        with pytest.raises(UserError, match="not finite"):
            ranks(broken, model, histories, np.array([7], np.int32))
