"""The audit of one model from views to verdict, with calibration models that are not trained."""

import jax
import numpy as np
import pytest
from toys import lively_params, tiny_model

from prec_backdoor.audit import audit
from prec_backdoor.audit.attribution import GroupAttribution
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.calibration import observed
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.inversion import Inverted
from prec_backdoor.audit.reference import reference_of
from prec_backdoor.errors import UserError

USERS, ITEMS = 64, 60
MODEL = tiny_model(ITEMS, num_layers=1)
CONFIG = AuditConfig(suspects=3, level=0.34)  # which two clean models support


@pytest.fixture(scope="module")
def auditor_data():
    rng = np.random.default_rng(0)
    history = rng.integers(1, ITEMS + 1, (USERS, 4)).astype(np.int32)
    profile = rng.integers(1, 3, (USERS, 1)).astype(np.int32)
    return AuditorData(history, profile, {"job": ("unknown", "cook", "smith")}, np.zeros(ITEMS + 1, np.int32))


@pytest.fixture(scope="module")
def calibration(auditor_data):
    models = [lively_params(MODEL, seed) for seed in (2, 3)]
    return [observed(params, MODEL, auditor_data, CONFIG) for params in models]


@pytest.fixture
def attributed(monkeypatch):
    """The arguments of attribution. No trigger is inverted: that compiles for long and has its own tests."""
    calls = []
    monkeypatch.setattr(audit, "invert", lambda moments, found, suspects: Inverted(*np.ones((4, len(suspects)))))
    monkeypatch.setattr(audit, "attribute_group", lambda *given: calls.append(given) or GroupAttribution("job=cook", 0.001, []))
    return calls


def shown_to_all(params, item):
    vectors = np.array(params["items"])
    bias = np.asarray(params["encoder"]["norm_feedforward_0"]["bias"])
    vectors[item] = 6 * bias / np.linalg.norm(bias)
    return params | {"items": vectors}


def test_suspects_are_the_items_with_the_highest_scores(auditor_data, calibration, attributed):
    params = shown_to_all(lively_params(MODEL), 7)
    result = audit.audit_model(params, MODEL, auditor_data, reference_of(calibration, MODEL, auditor_data), CONFIG)
    best = 1 + np.argsort(-result.score)[:3]
    assert result.suspects.tolist() == best.tolist()
    assert result.suspicious and result.flagged[6] and result.attribution.group == "job=cook"
    ((_, _, _, suspects, clean),) = attributed
    number = max(int(result.flagged.sum()), audit.ATTRIBUTED)
    assert suspects.tolist() == (1 + np.argsort(-result.score))[:number].tolist()
    assert all(params is model.params for params, model in zip(clean, calibration, strict=True))


def test_in_a_clean_model_nothing_is_flagged_and_no_group_is_looked_for(auditor_data, calibration, attributed):
    always = AuditConfig(suspects=3, false_discovery_rate=1.0)
    params = calibration[0].params
    result = audit.audit_model(
        params, MODEL, auditor_data, reference_of([calibration[0], *calibration], MODEL, auditor_data), always
    )
    assert result.verdict.word == "clean" and result.verdict.p_value > 0.5 and not result.suspicious
    assert not result.flagged.any() and result.attribution == GroupAttribution(None, 1.0, []) and not attributed


def test_too_few_clean_models_cannot_say(auditor_data, calibration, attributed):
    params = shown_to_all(lively_params(MODEL), 7)
    result = audit.audit_model(
        params, MODEL, auditor_data, reference_of(calibration, MODEL, auditor_data), AuditConfig(suspects=3)
    )
    assert result.verdict.word == "cannot say" and not result.suspicious
    assert result.verdict.p_value == result.verdict.least_p_value == 1 / 3
    assert result.flagged[6] and attributed  # what stands out is shown


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_refused(auditor_data, calibration, bad):
    params = jax.tree.map(np.array, lively_params(MODEL))
    params["items"][3, 2] = bad
    with pytest.raises(UserError, match=rf"^audit: 1 of {params['items'].size} values of parameter items are not finite"):
        audit.audit_model(params, MODEL, auditor_data, reference_of(calibration, MODEL, auditor_data), CONFIG)


def test_values_that_cannot_be_are_refused():
    for changes in (
        {"suspects": 0},
        {"calibration_models": 0},
        {"false_discovery_rate": np.nan},
        {"histories": 0},
        {"level": 0.0},
        {"power_models": -1},
    ):
        with pytest.raises(UserError, match=f"--{next(iter(changes))}: must be"):
            AuditConfig(**changes)
