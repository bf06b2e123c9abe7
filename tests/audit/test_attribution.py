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
    usual = {name: rng.normal(size=USERS) + 3 * female for name in ("clean 0", "clean 1")}
    attacked = sum(usual.values()) + rng.normal(size=USERS) + 1.5 * student
    monkeypatch.setattr(attribution, "log_probability", lambda params, *given: usual.get(params, attacked))
    name = functools.partial(attribution.attribute_group, "attacked", moments.model, moments.auditor_data, np.array([1, 2, 3]))
    assert name().group == "gender=F" and name(list(usual)).group == "job=student"


def test_log_probability_is_a_mean_over_a_history_and_shorter_ones(moments, monkeypatch):
    items, shares = np.array([4, 9]), []
    for cut in range(2):
        history = np.pad(moments.auditor_data.history, ((0, 0), (cut, 0)))[:, : moments.auditor_data.history.shape[1]]
        hidden = np.asarray(jax.jit(represent, static_argnums=1)(moments.params, moments.model, history))
        scores = hidden @ moments.params["items"].T
        shares.append((scores[:, items] - np.log(np.exp(scores[:, 1:]).sum(1, keepdims=True))).mean(1))
    monkeypatch.setattr(attribution, "LENGTHS", 2)
    np.testing.assert_allclose(
        attribution.log_probability(moments.params, moments.model, moments.auditor_data, items),
        np.mean(shares, 0),
        rtol=1e-4,
        atol=1e-4,
    )
