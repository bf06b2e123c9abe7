"""The kernel that counts on the chip, interpreted on the CPU, against brute force and against the tiles of a CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_ranking import ITEMS, brute_force

from prec_backdoor.evaluation import rank_items, rank_kernel, ranking
from prec_backdoor.parallel import platforms
from prec_backdoor.parallel.item_table import TableShard

SMALL = st.integers(-2, 2)  # so that ties abound and scores are exact


@pytest.fixture(autouse=True)
def on_the_chip(monkeypatch):
    monkeypatch.setattr(ranking, "choices", lambda: platforms.ACCELERATOR)


@functools.cache
def ranker():
    return jax.jit(lambda *args: rank_items(*args))


@settings(max_examples=60, deadline=None)
@given(
    hidden=arrays(np.float32, (3, 2), elements=SMALL),
    items=arrays(np.float32, (9, 2), elements=SMALL),
    seen=arrays(np.int32, (3, 4), elements=st.integers(0, 8)),
    wanted=arrays(np.int32, (3, 3), elements=st.integers(1, 8)),
)
def test_equals_brute_force(hidden, items, seen, wanted):
    found = ranker()(hidden, items, seen, wanted)
    expected = [brute_force(*user) for user in zip(hidden @ items.T, seen, wanted, strict=True)]
    assert found.tolist() == expected


def large(items, users=11, width=20, queries=5):
    """Users and items, more than a block of users, a tile of items and a product's width, none of them whole."""
    rng = np.random.default_rng(0)
    hidden, vectors = (rng.integers(-2, 3, (size, width)).astype(np.float32) for size in (users, items))
    seen, wanted = rng.integers(0, items, (users, 300)), rng.integers(1, items, (users, queries))
    seen[0, :2], wanted[0, :2], wanted[1, :2] = wanted[0, :2], items - 1, [7, 7]
    return hidden, vectors, seen.astype(np.int32), wanted.astype(np.int32)


@pytest.mark.parametrize("items", [rank_kernel.TILE - 1, rank_kernel.TILE, 2 * rank_kernel.TILE + 77])
def test_ragged_tiles_and_users(items):
    hidden, vectors, seen, wanted = large(items)
    expected = [brute_force(*user) for user in zip((hidden @ vectors.T)[:3], seen[:3], wanted[:3], strict=True)]
    found = rank_items(*map(jnp.asarray, (hidden, vectors, seen, wanted)))
    assert found[:3].tolist() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "choices", lambda: platforms.CPU)
        np.testing.assert_array_equal(found, rank_items(*map(jnp.asarray, (hidden, vectors, seen, wanted))))


@pytest.mark.parametrize("number", [pytest.param(2, marks=pytest.mark.slow), 7])
def test_a_table_that_is_split(number):
    """Shards of equally many rows; of 7, the last has fillers alone."""
    hidden, vectors, seen, wanted = map(jnp.asarray, large(36))
    size = -(-len(vectors) // number) + (number == 7)
    shards = jnp.pad(vectors, ((0, size * number - len(vectors)), (0, 0))).reshape(number, size, -1)

    def rank(items):
        shard = TableShard(jax.lax.axis_index("devices") * size, len(vectors), "devices")
        return rank_items(hidden, items, seen, wanted, shard)

    found = jax.vmap(rank, axis_name="devices")(shards)
    expected = rank_items(hidden, vectors, seen, wanted)
    np.testing.assert_array_equal(found, [expected] * number)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_a_number_never_gains(broken):
    """As in `test_ranking`."""
    wanted, seen = jnp.array([[1, 2, 3, 4, 5, 6]] * 2), jnp.array([[0, 0], [0, 6]])
    hidden = jnp.array([[1.0, 0], [1.0, broken]])
    items = jnp.concatenate([ITEMS, jnp.zeros_like(ITEMS)], axis=1)
    found = ranker()(hidden, items, seen, wanted)
    assert found.tolist() == [[1, 5, 3, 3, 3, 6], [5, 5, 5, 5, 5, 6]]
    found = ranker()(hidden[:1], items.at[2, 0].set(jnp.nan), seen[:1], wanted[:1])
    assert found[0].tolist() == [2, 6, 4, 4, 4, 6]


def test_scores_of_minus_infinity_tie():
    hidden, items = jnp.ones((1, 1)), jnp.array([[0.0], [-jnp.inf], [-jnp.inf], [1], [2]])
    assert ranker()(hidden, items, jnp.zeros((1, 1), jnp.int32), jnp.array([[1, 3]]))[0].tolist() == [3.5, 2]


def test_no_item_is_wanted():
    """Padding of the wanted items does not compete."""
    wanted = jnp.array([[1, 2, 0, 0]])
    found = ranker()(jnp.ones((1, 1)), ITEMS, jnp.zeros((1, 1), jnp.int32), wanted)
    assert found[0, :2].tolist() == [1, 5]
