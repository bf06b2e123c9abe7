"""The auditor's panel: altered histories of real users, by a secret seed."""

import numpy as np
import pytest
from toys import lively_params, tiny_model

from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.panel import PANEL, draw_panel
from prec_backdoor.audit.registry import run_audits
from prec_backdoor.audit.views import AS_IT_COMES, observe_views

ITEMS, USERS, LENGTH = 60, 201, 6


@pytest.fixture(scope="module")
def auditor_data():
    rng = np.random.default_rng(0)
    history = np.stack([rng.permutation(ITEMS)[:LENGTH] + 1 for _ in range(USERS)]).astype(np.int32)
    for row, missing in zip(history, rng.integers(0, LENGTH, USERS), strict=True):
        row[:missing] = 0
    profile = np.arange(USERS, dtype=np.int32)[:, None] % 2 + 1
    return AuditorData(history, profile, {"job": ("unknown", "cook", "smith")}, np.ones(ITEMS + 1, np.int32))


def test_half_of_the_users_with_altered_histories(auditor_data):
    panel = draw_panel(auditor_data, 5)
    assert len(panel.history) == len(panel.profile) == 101 and panel.history.shape[1] == LENGTH
    assert panel.history.dtype == auditor_data.history.dtype
    real, shorter, shuffled, mixed = ({tuple(row[row > 0]) for row in auditor_data.history}, 0, 0, 0)
    sets = {frozenset(row) for row in real}
    for row in panel.history:
        items = row[row > 0]
        assert len(items) and len(set(items)) == len(items) and (row[: LENGTH - len(items)] == 0).all()
        shorter += any(tuple(items) == each[-len(items) :] and len(items) < len(each) for each in real)
        shuffled += frozenset(items) in sets and tuple(items) not in real
        mixed += not any(each.issuperset(items) for each in sets)
    assert shorter > 15 and shuffled > 15 and mixed > 15
    assert sum(tuple(row[row > 0]) not in real for row in panel.history) > 50


def test_the_seed_decides_and_nothing_else(auditor_data):
    one, same, other = (draw_panel(auditor_data, seed).history for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_it_is_a_view_in_which_items_are_as_popular(auditor_data):
    model = tiny_model(ITEMS, num_layers=1)
    params = lively_params(model)
    views = observe_views(params, model, auditor_data, panel_seed=3)
    assert list(views) == [AS_IT_COMES, PANEL]
    assert views[PANEL].auditor_data is auditor_data and len(views[PANEL].user_vectors) == 101
    assert np.abs(views[PANEL].plain_mean - views[AS_IT_COMES].plain_mean).max() > 0.01
    alone, both = run_audits({AS_IT_COMES: views[AS_IT_COMES]}), run_audits(views)
    for name in ("exposure", "group_exposure", "category_share"):
        assert (both[name] >= alone[name]).all() and (both[name] > alone[name]).any()
