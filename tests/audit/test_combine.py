"""p-values, combination, false discoveries."""

import numpy as np
import pytest

from prec_backdoor.audit.audit import false_alarms, judge
from prec_backdoor.audit.combine import TAIL, discoveries, rescale_p_values, tail_probability


def test_tail_probability_is_the_share_and_then_exponential():
    null = np.arange(1000.0)
    found = tail_probability(np.array([-1.0, 500.0, 2000.0, 2010.0]), null)
    np.testing.assert_allclose(found[:2], [1.0, 501 / 1001])
    bar = np.quantile(null, 1 - TAIL)
    mean_excess = (null[null > bar] - bar).mean()
    np.testing.assert_allclose(found[2:], TAIL * np.exp(-(np.array([2000.0, 2010.0]) - bar) / mean_excess))
    assert tail_probability(np.array([1e9]), null)[0] > 0


def test_p_values_of_clean_items_are_uniform_or_larger():
    rng = np.random.default_rng(0)
    found = tail_probability(rng.normal(size=200_000), rng.normal(size=4_000))
    for level in (0.1, 0.01, 1e-3, 1e-4):
        assert (found <= level).mean() < 1.35 * level  # 4,000 items know a quantile of 1 % to a sixth


def test_p_values_in_own_terms_are_uniform_where_they_were_too_large_and_left_alone_where_not():
    uniform = np.random.default_rng(0).uniform(size=20_000)
    conservative = uniform**0.7
    found = rescale_p_values(conservative)
    for level in (0.05, 0.01, 1e-3):
        assert (conservative <= level).mean() < 0.6 * level and 0.6 * level < (found <= level).mean() < 1.4 * level
    np.testing.assert_array_equal(rescale_p_values(uniform**1.5), uniform**1.5)
    np.testing.assert_array_equal(rescale_p_values(np.ones(5)), np.ones(5))


def test_an_audit_that_does_not_apply_says_nothing():
    np.testing.assert_array_equal(tail_probability(np.zeros(3), np.zeros(100)), 1.0)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.04, 0.01, 0.02, 0.9], [False, True, True, False]),  # bounds 0.0125, 0.025, 0.0375, 0.05
        ([0.03, 0.035, 0.036, 0.9], [True, True, True, False]),  # the third passes, and takes the first two with it
        ([0.3, 0.4], [False, False]),
    ],
)
def test_discoveries_are_those_of_benjamini_and_hochberg(p_values, expected):
    assert discoveries(np.array(p_values), 0.05).tolist() == expected


def test_judge_finds_what_one_audit_sees_alone():
    rng = np.random.default_rng(1)
    nulls = [{name: rng.normal(size=1_000) for name in "abc"} for _ in range(3)]
    scores = {name: rng.normal(size=1_000) for name in "abc"}
    assert not discoveries(judge(scores, nulls).p_value, 0.01).any()
    scores["b"][:5] += 12
    judged = judge(scores, nulls)
    assert set(np.argsort(-judged.score)[:5]) == set(range(5))
    assert discoveries(judged.p_value, 0.01)[:5].all()
    assert false_alarms(nulls, 0.01).called_suspicious == 0
