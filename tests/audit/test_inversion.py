"""A planted item takes less of a prompt."""

import numpy as np
import pytest
from toys import lively_params, tiny_model

from prec_backdoor.audit import inversion
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.last_item import last_items
from prec_backdoor.audit.moments import observe

ITEMS = 60


@pytest.fixture(scope="module")
def moments():
    rng = np.random.default_rng(0)
    history = rng.integers(1, ITEMS + 1, (40, 5)).astype(np.int32)
    model = tiny_model(ITEMS, num_layers=1)
    params = lively_params(model, seed=2)
    auditor_data = AuditorData(history, np.zeros((40, 0), np.int32), {}, np.zeros(ITEMS + 1, np.int32))
    centre = observe(params, model, auditor_data).user_vectors.mean(0)
    vectors = np.array(params["items"])
    vectors[5] += 3 * centre / np.linalg.norm(centre)  # shown to everybody
    return observe(params | {"items": vectors}, model, auditor_data)


def test_the_anomaly_index_is_in_robust_deviations_below_the_usual_effort():
    usual = np.array([1.0, 2.0, 3.0, 4.0, 100.0])  # median 3, median absolute deviation 1
    np.testing.assert_allclose(inversion.anomaly_index(np.array([0.0, 3.0, 6.0]), usual), [3 / 1.4826, 0, -3 / 1.4826])
    np.testing.assert_allclose(inversion.anomaly_index(np.array([0.0]), np.full(5, 2.0)), [20.0])  # at least 5 % of the median


def test_an_item_is_no_rival_of_itself(monkeypatch):
    monkeypatch.setattr(inversion, "TOP", 1)
    items, hidden = np.array([[0.0], [1.0], [2.0], [1.5]], np.float32), np.array([[1.0], [-1.0]], np.float32)
    margin, within = inversion._standing(items, hidden, np.array([1, 2, 3]), 2)
    np.testing.assert_allclose(margin, [2 - np.log(np.exp(1) + np.exp(1.5)), -2 - np.log(np.exp(-1) + np.exp(-1.5))], rtol=1e-5)
    assert within.tolist() == [True, False]


def test_a_planted_item_takes_less(moments, monkeypatch):
    usual, index_of = [], inversion.anomaly_index
    monkeypatch.setattr(inversion, "anomaly_index", lambda effort, others: usual.append(others) or index_of(effort, others))
    found = inversion.invert(moments, last_items(moments), np.array([5, 20, 33]))
    assert len(usual[0]) == inversion.REFERENCES  # suspects are not among them
    assert found.effort[0] < found.effort[1:].min()
    assert found.index[0] == found.index.max()
