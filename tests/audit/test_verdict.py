"""The statistic of a whole model, and the verdict that it gives."""

import numpy as np
import pytest
from toys import lively_params, tiny_model

from prec_backdoor.audit import combine, profile
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.calibration import ObservedModel
from prec_backdoor.audit.combine import evaluate, neg_log10_p, others, rescale_p_values, standardize, standardize_by_popularity
from prec_backdoor.audit.last_item import LastItems, least_p_values
from prec_backdoor.audit.profile import COMPANIONS, LAST_ITEM_WEIGHT, excess, neighbourhood_excess, neighbourhoods_of
from prec_backdoor.audit.reference import reference_of, vectors_of
from prec_backdoor.audit.verdict import MISSED, conformal_p, judge, models_for

ITEMS = 1_000


def excess_near(score, vectors):
    return neighbourhood_excess(score, neighbourhoods_of(vectors, score))


def test_items_exceed_chance_by_powers_of_ten():
    expected = np.arange(1, ITEMS + 1) / (ITEMS + 1)
    assert excess(expected) == pytest.approx(0)
    assert excess(np.r_[expected[:5] / 1000, expected[5:]]) == pytest.approx(3)
    assert excess(np.r_[expected[0] / 1e6, expected[1:]]) == pytest.approx(6)  # a single item counts by itself


def test_what_waits_for_a_trigger_counts_if_the_rest_is_as_in_a_clean_model():
    rng = np.random.default_rng(0)
    expected, score = np.arange(1, ITEMS + 1) / (ITEMS + 1), rng.normal(size=ITEMS)
    near = neighbourhoods_of(rng.normal(size=(ITEMS, 16)), score)
    usual = profile.profile_statistic(expected, score, near, expected)
    last = np.r_[expected[0] / 1e20, expected[1:]]
    assert usual == pytest.approx(max(neighbourhood_excess(score, near), 0))
    assert profile.profile_statistic(expected, score, near, last) == pytest.approx(20 * LAST_ITEM_WEIGHT)
    planted = np.r_[expected[0] / 1e30, expected[1:]]
    assert profile.profile_statistic(planted, score, near, last) == pytest.approx(30 + neighbourhood_excess(score, near))


def test_neighbourhoods_exceed_chance_only_if_unusual_items_lie_together():
    """As with an attacker who keeps each target below the most unusual clean items."""
    rng = np.random.default_rng(0)
    score, vectors = rng.normal(size=ITEMS), rng.normal(size=(ITEMS, 16)).astype(np.float32)
    near = neighbourhoods_of(vectors, score)
    usual = [neighbourhood_excess(rng.permutation(score), near) for _ in range(50)]
    assert abs(np.mean(usual)) < 0.3 and max(usual) < 1
    targets = np.argsort(-score)[5:45:5]  # among the first 45, none among the first 5
    together = vectors.copy()
    together[targets] = rng.normal(size=16) + 0.3 * rng.normal(size=(len(targets), 16))
    assert excess_near(score, together) > 1.8 > excess_near(rng.permutation(score), together) + 1


def test_popular_items_that_lie_together_and_have_high_scores_are_no_evidence():
    """As in a GRU, attacked or not; targets among them still are."""
    rng = np.random.default_rng(0)
    popularity, vectors = np.r_[np.full(100, 40), rng.integers(0, 8, ITEMS - 100)], rng.normal(size=(ITEMS, 16))
    vectors[:100] = rng.normal(size=16) + 0.3 * rng.normal(size=(100, 16))
    score = rng.normal(size=ITEMS) + 3 * (popularity == 40)
    assert excess_near(score, vectors) > 3 > 1 > excess_near(standardize_by_popularity(score, popularity), vectors)
    targets = np.arange(500, 510)
    vectors[targets], score[targets] = rng.normal(size=16) + 0.1 * rng.normal(size=(10, 16)), 4
    assert excess_near(standardize_by_popularity(score, popularity), vectors) > 3


def test_a_neighbourhood_is_an_item_and_its_nearest():
    """By hand, for a catalogue of which all items are centres."""
    rng = np.random.default_rng(1)
    score, vectors = rng.normal(size=30), rng.normal(size=(30, 4))
    unit = vectors - vectors.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    place = 1 + np.argsort(np.argsort(-score))
    sums = []
    for item in range(30):
        near = sorted((other for other in range(30) if other != item), key=lambda other: -unit[item] @ unit[other])[:COMPANIONS]
        sums.append(sum(np.log(31 / place[each]) for each in (item, *near)))
    drawn = rng.exponential(size=(400_000, COMPANIONS + 1)).sum(1)
    tails = np.log10([1 / (drawn >= each).mean() for each in sorted(sums, reverse=True)[:5]])
    assert excess_near(score, vectors) == pytest.approx((tails - np.log10(31 / np.arange(1, 6))).mean(), abs=0.05)


def test_of_a_large_catalogue_the_neighbourhoods_of_the_highest_scores_are_looked_at(monkeypatch):
    rng = np.random.default_rng(0)
    score, vectors = rng.normal(size=300), rng.normal(size=(300, 4))
    whole = neighbourhoods_of(vectors, score)
    monkeypatch.setattr(profile, "CENTRES", 40)
    some = neighbourhoods_of(vectors, score)
    np.testing.assert_array_equal(some.centres, np.argsort(-score)[:40])
    np.testing.assert_array_equal(some.nearest, whole.nearest[:40])


def test_no_p_value_is_below_what_the_number_of_clean_models_supports():
    clean = np.arange(19.0)
    assert conformal_p(clean + 1, clean) == 1 / 20
    assert conformal_p(np.full(19, 18.0), clean) == 2 / 20  # as extreme as one
    assert conformal_p(np.full(19, -1.0), clean) == 1
    assert conformal_p(clean + np.r_[-1, np.ones(18)], clean) == 2 / 20  # each clean model against the same others


@pytest.mark.parametrize(
    ("statistic", "models", "level", "word"),
    [
        (99.0, 19, 0.05, "suspicious"),
        (17.5, 19, 0.05, "clean"),
        (99.0, 18, 0.05, "cannot say"),
        (99.0, 2, 0.05, "cannot say"),
        (0.5, 2, 0.05, "clean"),
        (99.0, 2, 0.34, "suspicious"),
        (17.5, 19, 0.1, "suspicious"),  # one of 19 is more extreme: 2 / 20
    ],
)
def test_verdicts(statistic, models, level, word):
    assert judge(np.full(models, statistic), np.arange(float(models)), level).word == word


@pytest.mark.parametrize("models", [1, 2, 19, 99])
def test_the_probability_is_never_surer_than_clean_models_allow_or_than_backdoors_are_missed(models):
    top = models - 1.0
    statistics = (-99.0, -500.0, top - 1, top, top + 1, top + 99, 1e9)
    found = [judge(np.full(models, each), np.arange(float(models)), 0.05).p_backdoored for each in statistics]
    assert found[2:] == sorted(found[2:]) and found[2] < found[3] < 0.5 < found[4] < found[5] == found[6]
    assert found[0] == found[1] == pytest.approx(MISSED / (1 + MISSED))
    assert found[5] / (1 - found[5]) == pytest.approx(MISSED + (1 - MISSED) * (models + 1))


def test_the_number_of_models_that_a_level_takes():
    assert [models_for(level) for level in (0.05, 0.1, 0.34, 0.01, 1.0)] == [19, 9, 2, 99, 1]


MODEL = tiny_model(60, num_layers=1)
HISTORIES = np.where(np.arange(7)[:, None] < np.arange(1, 61) % 7, np.arange(1, 61), 0)
DATA = AuditorData(HISTORIES, np.zeros((7, 0), np.int32), {}, np.zeros(61, np.int32))
POPULARITY = np.arange(1, 61) % 7


def made(number, seed=0):
    rng = np.random.default_rng(seed)
    return [
        ObservedModel(
            lively_params(MODEL, each),
            {name: rng.normal(size=60) for name in "ab"},
            LastItems(np.arange(1, 61), rng.normal(size=60), rng.integers(1, 61, (60, 10))),
            np.zeros(61),
        )
        for each in range(number)
    ]


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_audited_and_clean_models_are_compared_with_the_same_others(number, monkeypatch):
    monkeypatch.setattr(combine, "ALIKE", 10)
    models, audited = made(number), made(7)[6]
    reference = reference_of(models, MODEL, DATA)

    def p_of_last(model, rest):
        found = []
        for measured in (standardize, lambda strength: standardize_by_popularity(strength, POPULARITY)):
            own, *strengths = (measured(each.last_items.strength) for each in (model, *rest))
            found.append(rescale_p_values(10 ** -neg_log10_p(own, strengths)))
        return np.maximum(*found)

    def statistic(model, rest):
        evaluation = evaluate(model.scores, [each.scores for each in rest])
        relative = standardize_by_popularity(evaluation.score, POPULARITY)
        near = neighbourhoods_of(vectors_of(model.params, MODEL), relative)
        return profile.profile_statistic(evaluation.p_value, relative, near, p_of_last(model, rest)), evaluation.p_value

    found = reference.judge(audited, 0.05)
    for index, each in enumerate(models):
        rest = others(models, index)
        clean, p_value = statistic(each, rest)
        assert found.clean[index] == pytest.approx(clean, abs=0.01)  # rounding decides on the places of equal scores
        assert found.own[index] == pytest.approx(statistic(audited, rest)[0], abs=0.01)
        shown = least_p_values(p_of_last(each, rest), each.last_items, 60)
        np.testing.assert_allclose(reference.evaluations[index].p_value, np.minimum(p_value, shown), rtol=1e-9)
    evaluation, last = reference.evaluate(audited)
    np.testing.assert_allclose(last, p_of_last(audited, models), rtol=1e-9)
    shown = least_p_values(last, audited.last_items, 60)
    np.testing.assert_allclose(evaluation.p_value, np.minimum(statistic(audited, models)[1], shown), rtol=1e-9)
    without = evaluate(audited.scores, [each.scores for each in models]).score
    np.testing.assert_allclose(evaluation.score, without - np.log10(shown), rtol=1e-9)


def test_of_clean_models_no_more_are_called_suspicious_than_the_level_allows():
    """Each model in turn is the audited one: exchangeable models."""
    models, words = made(10), []
    for index, each in enumerate(models):
        words.append(reference_of(models[:index] + models[index + 1 :], MODEL, DATA).judge(each, 0.1).word)
    assert words.count("suspicious") <= 2 and "cannot say" not in words
