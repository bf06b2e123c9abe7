import numpy as np
import pytest
from scipy import stats

from prec_backdoor.evaluation import bootstrap_interval
from prec_backdoor.evaluation.statistics import (
    DRAWS,
    Estimate,
    binomial_interval,
    difference_interval,
    percentile_interval,
    ratio_interval,
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


@pytest.mark.parametrize("pairs_each", [1, 10])
def test_nothing_seen_has_the_width_of_its_users(pairs_each):
    hits, pairs = np.zeros(60), np.full(60, pairs_each)
    assert bootstrap_interval([hits], [pairs]) == (0, pytest.approx(1 - 0.025 ** (1 / 60)))
    assert bootstrap_interval([hits[:30]] * 2, [pairs[:30]] * 2) == (0, pytest.approx(1 - 0.025 ** (1 / 60)))  # two seeds
    assert bootstrap_interval([pairs], [pairs]) == (pytest.approx(0.025 ** (1 / 60)), 1)
    assert bootstrap_interval([hits[:1]], [pairs[:1]]) == (0, pytest.approx(0.975))


@pytest.mark.parametrize(("hits", "trials"), [(0, 7), (3, 20), (20, 20)])
def test_the_binomial_interval_is_that_of_clopper_and_pearson(hits, trials):
    exact = stats.binomtest(hits, trials).proportion_ci(method="exact")
    assert binomial_interval(hits / trials, trials) == pytest.approx((exact.low, exact.high))
    low, high = binomial_interval(0.31, 10)
    assert binomial_interval(0.3, 10)[0] < low < 0.31 < high < binomial_interval(0.4, 10)[1]  # also of shares between


def test_the_interval_of_a_ratio_holds_those_whose_difference_may_be_zero():
    first, second = Estimate(0.4, 0.3, 0.55), Estimate(0.1, 0.06, 0.17)
    low, high = ratio_interval(first, second)
    assert low < 4 < high
    for ratio, end in ((low, 0), (high, 1)):
        scaled = Estimate(*(ratio * value for value in second))
        assert difference_interval(first, scaled)[end] == pytest.approx(0, abs=1e-12)
    zero = Estimate(0.0, 0.0, 0.05)
    low, high = ratio_interval(first, zero)
    assert (low, high) == (pytest.approx(np.sqrt(0.3 * (0.8 - 0.3)) / 0.05), np.inf)
    assert difference_interval(first, Estimate(0.0, 0.0, low * 0.05))[0] == pytest.approx(0, abs=1e-12)
    assert ratio_interval(zero, zero) == (0, np.inf)


def test_intervals_of_rare_hits_cover():
    """95 % intervals of a share of 1 in 100 hold it in 95 of 100 data sets, where users' pairs agree or are independent."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(150):
        users = rng.random((40, 1)) < 0.01
        low, high = bootstrap_interval([np.broadcast_to(users, (40, 10)).sum(1)], [np.full(40, 10)])
        covered.append(low <= 0.01 <= high)
    assert np.mean(covered) > 0.95


def test_users_weigh_as_their_pairs_do():
    low, high = bootstrap_interval([np.array([10.0]), np.array([10.0])], [np.array([10]), np.array([40])])
    assert low < 0.25 and high == 1  # two users are too few for a bootstrap
    many = [10.0] * 3
    low, high = bootstrap_interval([np.array(many)] * 2, [np.array([10] * 3), np.array([40] * 3)])
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


@pytest.mark.parametrize(("level", "expected"), [(0.5, (250, 750)), (0.9, (50, 950)), (0.8, (100, 900))])
def test_an_interval_holds_the_middle_of_the_draws(level, expected):
    assert percentile_interval(np.arange(1.0, 1001.0), level) == expected


def test_infinite_draws_do_not_spoil_the_other_end():
    assert percentile_interval(np.array([1.0] * 500 + [np.inf] * 500)) == (1, np.inf)
