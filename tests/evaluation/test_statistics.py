import numpy as np
import pytest

from prec_backdoor.evaluation import bootstrap_interval


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
