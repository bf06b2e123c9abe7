"""p-values, combination, false discoveries."""

import numpy as np
import pytest

from prec_backdoor.audit.combine import (
    ALIKE,
    LIGHTEST,
    TAIL,
    combine_evidence,
    discoveries,
    evaluate,
    evidence_of,
    neg_log10_p,
    others,
    rescale_p_values,
    standardize,
    standardize_by_popularity,
    tail_of,
)


def test_tail_probability_is_the_share_and_then_exponential():
    null = np.arange(1000.0)
    found = tail_of(null).probability(np.array([-1.0, 500.0, 2000.0, 2010.0]))
    np.testing.assert_allclose(found[:2], [1.0, 501 / 1001])
    bar = np.quantile(null, 1 - TAIL)
    mean_excess = (null[null > bar] - bar).mean()
    np.testing.assert_allclose(found[2:], TAIL * np.exp(-(np.array([2000.0, 2010.0]) - bar) / mean_excess))
    assert tail_of(null).probability(np.array([1e9]))[0] > 0


def test_p_values_of_clean_items_are_uniform_or_larger():
    rng = np.random.default_rng(0)
    values = rng.normal(size=200_000)
    found = tail_of(rng.normal(size=4_000)).probability(values)
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


def test_no_p_value_is_0():
    """A power of a p-value as small as they get would be; the statistic of a model was infinite, and audit.json no JSON."""
    found = rescale_p_values(np.array([1e-300, *np.full(99, 0.9)]))
    assert np.isfinite(np.log10(found)).all() and found[0] < 1e-300


def test_scores_that_are_nearly_equal_make_no_others_impossible():
    equal = standardize(1e-6 * np.random.default_rng(0).normal(size=1_000), least=1.0)
    assert -np.log10(tail_of(equal).probability(np.array([0.5]))[0]) == pytest.approx(
        0.5 / LIGHTEST / np.log(10) - np.log10(TAIL), rel=1e-3
    )


def test_an_audit_that_does_not_apply_says_nothing():
    np.testing.assert_array_equal(tail_of(np.zeros(100)).probability(np.zeros(3)), 1.0)


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


def test_evaluate_finds_what_one_audit_sees_alone():
    rng = np.random.default_rng(1)
    clean = [{name: rng.normal(size=1_000) for name in "abc"} for _ in range(3)]
    scores = {name: rng.normal(size=1_000) for name in "abc"}
    assert not discoveries(evaluate(scores, clean).p_value, 0.01).any()
    scores["b"][:5] += 12
    evaluation = evaluate(scores, clean)
    assert set(np.argsort(-evaluation.score)[:5]) == set(range(5))
    assert discoveries(evaluation.p_value, 0.01)[:5].all()
    assert not discoveries(evaluate(clean[0], clean[1:]).p_value, 0.01).any()


def random_scores(models, items=1_000, seed=1):
    rng = np.random.default_rng(seed)
    return [{name: rng.normal(size=items) for name in "abc"} for _ in range(models)]


def test_the_combined_score_of_a_clean_model_is_calibrated_by_the_other_ones_only():
    clean, scores = random_scores(3), random_scores(1, seed=2)[0]
    combined = [combine_evidence(evidence_of(each, clean[:n] + clean[n + 1 :])) for n, each in enumerate(clean)]
    evaluation = evaluate(scores, clean)
    assert list(evaluation.evidence) == list("abc")
    np.testing.assert_array_equal(evaluation.score, combine_evidence(evidence_of(scores, clean)))
    expected = rescale_p_values(10 ** -neg_log10_p(evaluation.score, combined))
    np.testing.assert_array_equal(evaluation.p_value, expected)


def test_a_single_clean_model_is_compared_with_itself():
    (clean,) = random_scores(1)
    assert np.isfinite(evaluate(random_scores(1, seed=2)[0], [clean]).p_value).all()


def test_others_are_told_apart_by_place_and_not_by_content():
    one = {"a": np.zeros(3)}
    assert len(others([one, one, one], 1)) == 2


def test_evidence_is_a_mean_over_clean_models_of_standardized_scores():
    rng = np.random.default_rng(3)
    narrow, wide = rng.normal(size=2_000), 5 * rng.normal(size=2_000) + 7
    values = rng.normal(size=50)
    both = neg_log10_p(values, [narrow, wide])
    np.testing.assert_allclose(both, (neg_log10_p(values, [narrow]) + neg_log10_p(values, [wide])) / 2)
    assert np.abs(both - neg_log10_p(values, [np.concatenate([narrow, wide])])).max() > 0.1  # not a pool
    (evidence,) = evidence_of({"a": 3 * values + 1}, [{"a": wide}]).values()
    np.testing.assert_allclose(evidence, neg_log10_p(standardize(values), [standardize(wide)]), rtol=1e-6)


def test_scores_are_standardized_by_median_and_quantile():
    values = np.arange(101.0)
    np.testing.assert_allclose(standardize(values), (values - 50) / 40)
    np.testing.assert_array_equal(standardize(np.ones(9)), np.zeros(9))
    np.testing.assert_allclose(standardize(values, least=80), (values - 50) / 80)
    np.testing.assert_array_equal(standardize(values, least=40), standardize(values))


def test_combined_evidence_is_the_maximum_plus_the_mean():
    found = combine_evidence({"a": np.array([3.0, 0.0]), "b": np.array([0.0, 1.0]), "c": np.array([0.0, 2.0])})
    np.testing.assert_allclose(found, [4.0, 3.0])


def test_values_are_standardized_among_items_of_similar_popularity():
    rng = np.random.default_rng(0)
    popularity = np.r_[np.zeros(500, int), np.ones(300, int), np.full(ALIKE, 2), np.full(ALIKE, 3), np.full(ALIKE, 4)]
    popularity = rng.permutation(np.r_[popularity, 100, 200])
    values = rng.normal(size=len(popularity)) * (1 + 10 * (popularity == 1)) + 5 * (popularity == 2)
    found = standardize_by_popularity(values, popularity)
    for group in (popularity == 0, popularity == 1, popularity == 2, popularity >= 3):  # the last two are too few by themselves
        np.testing.assert_array_equal(found[group], standardize(values[group]))
    spread, wide = standardize_by_popularity(values, popularity, least=3.0), popularity == 1
    np.testing.assert_array_equal(spread[wide], found[wide])
    np.testing.assert_allclose(spread[popularity == 0], standardize(values[popularity == 0], least=3.0))
    few = rng.normal(size=ALIKE - 1)
    np.testing.assert_array_equal(standardize_by_popularity(few, np.arange(ALIKE - 1)), standardize(few))


def test_rare_items_wait_for_enough_of_them():
    values, popularity = np.random.default_rng(0).normal(size=3 * ALIKE), np.repeat([0, 1, 2, 9], [10, ALIKE, 20, 2 * ALIKE - 30])
    found = standardize_by_popularity(values, popularity)
    for group in (popularity <= 1, popularity >= 2):
        np.testing.assert_array_equal(found[group], standardize(values[group]))
