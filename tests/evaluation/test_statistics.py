import numpy as np
import pytest

from prec_backdoor.evaluation import bootstrap_interval
from prec_backdoor.evaluation.statistics import (
    DRAWS,
    percentile_interval,
    replicate_mean,
    resampled_replicates,
    resampled_sums,
)


def test_no_spread_no_interval():
    hits, pairs = [np.full(7, 2)] * 3, [np.full(7, 8)] * 3
    assert bootstrap_interval(hits, pairs) == (0.25, 0.25)


def test_of_one_seed_it_is_the_binomial_interval():
    hits = [np.repeat([0, 1], [300, 100])]
    low, high = bootstrap_interval(hits, [np.ones(400)])
    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert (low, high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.006)


def test_seeds_are_drawn_again_too():
    # Users of a seed agree with each other, so that all spread is between the seeds.
    low, high = bootstrap_interval([np.zeros(50), np.ones(50)], [np.ones(50)] * 2)
    assert (low, high) == (0, 1)


def test_users_weigh_as_their_pairs_do():
    low, high = bootstrap_interval([np.array([10.0]), np.array([10.0])], [np.array([10]), np.array([40])])
    assert (low, high) == (0.25, 1)
    # A user without pairs, who had seen all targets, counts for nothing.
    assert bootstrap_interval([np.array([3] * 500 + [0])], [np.array([4] * 500 + [0])]) == (0.75, 0.75)


def test_the_same_users_are_drawn_for_the_same_key():
    values = np.arange(10.0)[:, None] ** [0, 1, 1]
    drawn = resampled_sums(values, (3,))
    assert drawn.shape == (DRAWS, 3) and (drawn[:, 0] == 10).all()
    assert (drawn[:, 1] == drawn[:, 2]).all() and drawn[:, 1].std() > 0
    assert (resampled_sums(values[:, 1:], (3,))[:, 0] == drawn[:, 1]).all()
    assert (resampled_sums(values, (4,))[:, 1] != drawn[:, 1]).any()


def test_many_users_are_drawn_in_parts():
    drawn = resampled_sums(np.ones((9_000, 1)), (0,))
    assert (drawn == 9_000).all()


def test_replicates_of_one_seed_are_drawn_together():
    counts = resampled_replicates([5, 5, 7])
    assert set(np.unique(counts[:, :2].sum(1))) == {0, 2, 4}  # seed 5 not at all, once, twice; each time with two replicates
    assert set(np.unique(counts[:, 2])) == {0, 1, 2}
    assert (counts[:, :2].sum(1) / 2 + counts[:, 2] == 2).all()
    assert replicate_mean(np.array([[1.0, 2.0, 6.0]]), np.array([[1, 1, 0]])).tolist() == [1.5]


def test_infinite_draws_do_not_spoil_the_other_end():
    assert percentile_interval(np.array([1.0] * 500 + [np.inf] * 500)) == (1, np.inf)
