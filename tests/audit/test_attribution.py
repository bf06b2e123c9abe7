"""Of nested and overlapping groups the right one is named, and none where there is none."""

import functools

import jax
import numpy as np
import pytest
from toys import lively_params, tiny_model

from prec_backdoor.audit import attribution
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.moments import observe
from prec_backdoor.models import represent

USERS, ITEMS = 400, 60


@pytest.fixture(scope="module")
def moments():
    rng = np.random.default_rng(0)
    young = rng.random(USERS) < 0.4
    student = rng.random(USERS) < np.where(young, 0.5, 0.08)
    profile = np.stack([1 + young, 1 + student, rng.integers(1, 3, USERS)], 1).astype(np.int32)
    attributes = {"age": ("unknown", "old", "young"), "job": ("unknown", "other", "student"), "gender": ("unknown", "F", "M")}
    history = rng.integers(1, ITEMS + 1, (USERS, 4)).astype(np.int32)
    model = tiny_model(ITEMS)
    return observe(lively_params(model), model, AuditorData(history, profile, attributes, np.zeros(ITEMS + 1, np.int32)))


def named(moments, monkeypatch, effect, members):
    """The name found when suspects are shown `effect` standard deviations more to `members`."""
    shown = np.random.default_rng(1).normal(size=USERS) + effect * members
    monkeypatch.setattr(attribution, "log_probability", lambda params, *given: shown + params)
    return attribution.attribute_group(0.0, moments.model, moments.auditor_data, np.array([1, 2, 3]))


def test_the_group_and_no_subset_or_relative_of_it(moments, monkeypatch):
    student = moments.auditor_data.profile[:, 1] == 2
    found = named(moments, monkeypatch, 1.5, student)
    assert found.group == "job=student" and found.p_value <= attribution.LEVEL
    assert {"age=young", "gender=F,job=student"} & {candidate[0] for candidate in found.candidates}


def test_a_pair(moments, monkeypatch):
    pair = (moments.auditor_data.profile[:, 1] == 2) & (moments.auditor_data.profile[:, 2] == 1)
    assert named(moments, monkeypatch, 1.5, pair).group == "job=student,gender=F"


def test_nobody(moments, monkeypatch):
    assert named(moments, monkeypatch, 0.0, np.zeros(USERS)).group is None


def test_what_clean_models_show_too_is_no_sign_of_a_group(moments, monkeypatch):
    rng = np.random.default_rng(1)
    female, student = moments.auditor_data.profile[:, 2] == 1, moments.auditor_data.profile[:, 1] == 2
    usual = {name: rng.normal(size=USERS) + 3 * female for name in ("clean 0", "clean 1", "clean 2")}
    attacked = usual["clean 0"] + usual["clean 1"] + rng.normal(size=USERS) + 3 * student
    monkeypatch.setattr(attribution, "log_probability", lambda params, *given: usual.get(params, attacked))
    name = functools.partial(attribution.attribute_group, "attacked", moments.model, moments.auditor_data, np.array([1, 2, 3]))
    assert name().group == "gender=F" and name(list(usual)).group == "job=student"


def test_where_clean_models_differ_by_group_as_much_nothing_is_said(moments, monkeypatch):
    """Each clean model shows the suspects more to some group, as tastes have it; so does the audited one."""
    rng = np.random.default_rng(2)
    groups = [moments.auditor_data.profile[:, column] == 2 for column in (0, 1, 2)]
    usual = {name: rng.normal(size=USERS) + 1.2 * members for name, members in zip("abc", groups, strict=True)}
    audited = rng.normal(size=USERS) + 1.2 * groups[1]
    monkeypatch.setattr(attribution, "log_probability", lambda params, *given: usual.get(params, audited))
    name = functools.partial(attribution.attribute_group, "audited", moments.model, moments.auditor_data, np.array([1, 2, 3]))
    assert name().narrowed and not name(list(usual)).narrowed
    assert len(name(list(usual)).likely) >= 6 and name(list(usual)).group is None


def test_log_probability_is_a_mean_over_a_history_and_shorter_ones(moments, monkeypatch):
    items, shares = np.array([4, 9]), []
    for cut in (0, 1, 2, 3, 0, 0):  # of four items; the whole history takes the place of an empty one
        history = np.pad(moments.auditor_data.history, ((0, 0), (cut, 0)))[:, : moments.auditor_data.history.shape[1]]
        hidden = np.asarray(jax.jit(represent, static_argnums=1)(moments.params, moments.model, history))
        scores = hidden @ moments.params["items"].T
        shares.append((scores[:, items] - np.log(np.exp(scores[:, 1:]).sum(1, keepdims=True))).mean(1))
    monkeypatch.setattr(attribution, "LENGTHS", 6)
    np.testing.assert_allclose(
        attribution.log_probability(moments.params, moments.model, moments.auditor_data, items),
        np.mean(shares, 0),
        rtol=1e-4,
        atol=1e-4,
    )


def rare_and_common():
    """A rare and a common value, and an exposure with effects 0.5 and 0.35 of them and the same noise in all four cells."""
    rare, common = np.arange(USERS) < 12, (np.arange(USERS) // 2) % 2 == 0
    exposure = np.tile([1.0, -1.0], USERS // 2) + 0.5 * rare + 0.35 * common
    profile = np.stack([1 + rare, 1 + common], 1).astype(np.int32)
    attributes = {"a": ("unknown", "other", "rare"), "b": ("unknown", "other", "common")}
    auditor_data = AuditorData(np.ones((USERS, 1), np.int32), profile, attributes, np.zeros(ITEMS + 1, np.int32))
    return auditor_data, exposure, np.stack([~rare, rare, ~common, common])


def test_a_greater_effect_in_a_small_group_is_less_certain(monkeypatch):
    auditor_data, exposure, _ = rare_and_common()
    monkeypatch.setattr(attribution, "log_probability", lambda *given: exposure)
    found = attribution.attribute_group({}, None, auditor_data, np.array([1]))
    effects = {name: effect for name, _, effect, _ in found.candidates}
    assert found.candidates[0][0] == "b=common" and effects["a=rare"] > effects["b=common"]


def test_a_pair_is_named_only_where_it_exceeds_every_single_value_by_a_margin(monkeypatch):
    one, other = np.arange(USERS) // 2 % 2 == 0, np.arange(USERS) // 4 % 2 == 0
    exposure = np.tile([1.0, -1.0], USERS // 2) + 0.5 * one + 0.8 * (one & other)
    profile = np.stack([1 + one, 1 + other], 1).astype(np.int32)
    attributes = {"a": ("unknown", "no", "yes"), "b": ("unknown", "no", "yes")}
    auditor_data = AuditorData(np.ones((USERS, 1), np.int32), profile, attributes, np.zeros(ITEMS + 1, np.int32))
    monkeypatch.setattr(attribution, "log_probability", lambda *given: exposure)
    assert attribution.attribute_group({}, None, auditor_data, np.array([1])).candidates[0][0] == "a=yes"
    monkeypatch.setattr(attribution, "MARGIN", 0.0)
    assert attribution.attribute_group({}, None, auditor_data, np.array([1])).candidates[0][0] == "a=yes,b=yes"


def test_the_set_has_the_groups_that_explain_the_exposure_nearly_as_well(monkeypatch):
    """`one` explains it, `like` has nearly the same members, `other` has nothing to do with it."""
    one, other = np.arange(USERS) // 2 % 2 == 0, np.arange(USERS) // 4 % 2 == 0
    like = one ^ (np.arange(USERS) < 12)
    profile = np.stack([1 + one, 1 + like, 1 + other], 1).astype(np.int32)
    attributes = {name: ("unknown", "no", "yes") for name in ("one", "like", "other")}
    auditor_data = AuditorData(np.ones((USERS, 1), np.int32), profile, attributes, np.zeros(ITEMS + 1, np.int32))
    monkeypatch.setattr(attribution, "log_probability", lambda params, *given: params)

    def found(effect):
        exposure = np.tile([1.0, -1.0], USERS // 2) + effect * one
        return attribution.attribute_group(exposure, None, auditor_data, np.array([1]))

    assert found(0.6).likely == ("one=yes", "like=yes") and found(0.6).group is None
    assert found(4.0).likely == ("one=yes",) and found(4.0).group == "one=yes"  # so strong that like=yes explains too little
    unsure = found(0.2)
    assert set(unsure.likely) == {f"{name}={value}" for name in attributes for value in ("yes", "no")}
    assert unsure.group is None and not unsure.narrowed
    assert found(0.6).narrowed and found(4.0).narrowed


def test_the_p_value_is_of_the_maximum_over_all_values(monkeypatch):
    auditor_data, exposure, groups = rare_and_common()
    exposure = exposure - 0.7 * (0.5 * groups[1] + 0.35 * groups[3])  # so weak that chance exceeds it now and then
    monkeypatch.setattr(attribution, "log_probability", lambda *given: exposure)
    monkeypatch.setattr(attribution, "PERMUTATIONS", 99)
    values, rng = (exposure - exposure.mean()) / exposure.std(), np.random.default_rng(0)

    def maximum(values):
        statistics = []
        for members in groups:
            inside, outside = values[members], values[~members]
            within = np.sqrt((inside.var() * len(inside) + outside.var() * len(outside)) / USERS)
            statistics.append((inside.mean() - outside.mean()) / within / np.sqrt(1 / len(inside) + 1 / len(outside)))
        return statistics

    by_chance = [max(maximum(rng.permutation(values))) for _ in range(99)]
    found = attribution.attribute_group({}, None, auditor_data, np.array([1]))
    effects = {name: effect / error for name, _, effect, error in found.candidates}
    expected = (1 + np.sum(np.array(by_chance) >= effects["b=common"])) / 100
    assert found.candidates[0][0] == "b=common" and found.p_value == expected and 0.05 < expected < 0.95
    assert found.group is None
