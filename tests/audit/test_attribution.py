"""Of nested and overlapping groups the right one is named, and none where there is none."""

import functools

import jax
import numpy as np
import pytest
from toys import lively_params, tiny_model

from prec_backdoor.audit import naming
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.moments import observe
from prec_backdoor.models import represent

USERS, ITEMS = 400, 60


@pytest.fixture(scope="module")
def seen():
    rng = np.random.default_rng(0)
    young = rng.random(USERS) < 0.4
    student = rng.random(USERS) < np.where(young, 0.5, 0.08)
    profile = np.stack([1 + young, 1 + student, rng.integers(1, 3, USERS)], 1).astype(np.int32)
    attributes = {"age": ("unknown", "old", "young"), "job": ("unknown", "other", "student"), "gender": ("unknown", "F", "M")}
    history = rng.integers(1, ITEMS + 1, (USERS, 4)).astype(np.int32)
    model = tiny_model(ITEMS)
    return observe(lively_params(model), model, AuditorData(history, profile, attributes, np.zeros(ITEMS + 1, np.int32)))


def named(seen, monkeypatch, effect, members):
    """The name found when suspects are shown `effect` standard deviations more to `members`."""
    shown = np.random.default_rng(1).normal(size=USERS) + effect * members
    monkeypatch.setattr(naming, "log_probability", lambda params, *given: shown + params)
    return naming.attribute_group(0.0, seen.model, seen.auditor_data, np.array([1, 2, 3]))


def test_the_group_and_no_subset_or_relative_of_it(seen, monkeypatch):
    student = seen.auditor_data.profile[:, 1] == 2
    found = named(seen, monkeypatch, 1.5, student)
    assert found.group == "job=student" and found.p_value <= naming.LEVEL
    assert {"age=young", "gender=F,job=student"} & {candidate[0] for candidate in found.candidates}


def test_a_pair(seen, monkeypatch):
    pair = (seen.auditor_data.profile[:, 1] == 2) & (seen.auditor_data.profile[:, 2] == 1)
    assert named(seen, monkeypatch, 1.5, pair).group == "job=student,gender=F"


def test_nobody(seen, monkeypatch):
    assert named(seen, monkeypatch, 0.0, np.zeros(USERS)).group is None


def test_what_clean_models_show_too_is_no_sign_of_a_group(seen, monkeypatch):
    rng = np.random.default_rng(1)
    female, student = seen.auditor_data.profile[:, 2] == 1, seen.auditor_data.profile[:, 1] == 2
    usual = {name: rng.normal(size=USERS) + 3 * female for name in ("clean 0", "clean 1")}
    attacked = sum(usual.values()) + rng.normal(size=USERS) + 1.5 * student
    monkeypatch.setattr(naming, "log_probability", lambda params, *given: usual.get(params, attacked))
    name = functools.partial(naming.attribute_group, "attacked", seen.model, seen.auditor_data, np.array([1, 2, 3]))
    assert name().group == "gender=F" and name(list(usual)).group == "job=student"


def test_log_probability_is_a_mean_over_a_history_and_shorter_ones(seen, monkeypatch):
    items, shares = np.array([4, 9]), []
    for cut in range(2):
        history = np.pad(seen.auditor_data.history, ((0, 0), (cut, 0)))[:, : seen.auditor_data.history.shape[1]]
        hidden = np.asarray(jax.jit(represent, static_argnums=1)(seen.params, seen.model, history))
        scores = hidden @ seen.params["items"].T
        shares.append((scores[:, items] - np.log(np.exp(scores[:, 1:]).sum(1, keepdims=True))).mean(1))
    monkeypatch.setattr(naming, "SHORTER", 2)
    np.testing.assert_allclose(
        naming.log_probability(seen.params, seen.model, seen.auditor_data, items), np.mean(shares, 0), rtol=1e-4, atol=1e-4
    )
