"""Each audit sees what it is for, planted into what was observed of a model."""

import numpy as np
import pytest
from toys import lively_params, tiny_model

from prec_backdoor.audit import category_share, registry, texts
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.last_item import LAST_ITEM
from prec_backdoor.audit.prompt_swing import scaled_by_popularity
from prec_backdoor.audit.registry import AUDITS, register_audit, run_audits
from prec_backdoor.audit.views import AS_IT_COMES, WITHOUT_PROMPT, observe_views

USERS, ITEMS, PLANTED = 120, 80, 17


@pytest.fixture(scope="module")
def views():
    rng = np.random.default_rng(0)
    history = rng.integers(1, ITEMS + 1, (USERS, 4)).astype(np.int32)
    category = np.concatenate([[0], rng.integers(1, 4, ITEMS)]).astype(np.int32)
    auditor_data = AuditorData(
        history, rng.integers(1, 3, (USERS, 1)).astype(np.int32), {"job": ("unknown", "cook", "smith")}, category
    )
    model = tiny_model(ITEMS, prompt_length=1, profile_sizes=(3,))
    return observe_views(lively_params(model), model, auditor_data, fresh_prompts=1)


def planted(array, row, amount):
    changed = array.copy()
    changed[row, PLANTED] += amount
    return changed


def test_views(views):
    assert list(views) == [AS_IT_COMES, WITHOUT_PROMPT, "fresh prompt 1"]
    means = [view.plain_mean for view in views.values()]
    assert all(np.abs(one - other).max() > 0.1 for one, other in zip(means, means[1:], strict=False))


def test_the_report_knows_every_audit():
    assert list(texts.AUDITS) == [*AUDITS, LAST_ITEM]


@pytest.mark.parametrize("audit", AUDITS.values(), ids=AUDITS)
def test_one_finite_score_an_item(views, audit):
    found = audit(views)
    assert found.shape == (ITEMS,) and np.isfinite(found).all() and found.std() > 0


def test_own_audits_are_registered_once_and_checked(views, monkeypatch):
    monkeypatch.setattr(registry, "AUDITS", dict(AUDITS))
    register_audit("own", lambda views: np.arange(float(ITEMS)))
    scores = run_audits(views)
    assert list(scores) == [*AUDITS, "own"]
    for name, value in scores.items():
        np.testing.assert_array_equal(value, np.arange(ITEMS) if name == "own" else AUDITS[name](views))
    with pytest.raises(ValueError, match="the audit own is registered already"):
        register_audit("own", AUDITS["exposure"])
    for wrong in (np.full(ITEMS, np.nan), np.zeros(ITEMS + 1)):
        registry.AUDITS["own"] = lambda views, wrong=wrong: wrong
        with pytest.raises(ValueError, match=f"audit own: must return {ITEMS} finite scores"):
            run_audits(views)


def test_exposure_sees_what_is_shown_steadily_in_any_view(views):
    for name, moments in views.items():
        changed = moments._replace(
            mean=planted(moments.mean[None], 0, 4)[0], std=planted(moments.std[None], 0, -0.7 * moments.std[PLANTED])[0]
        )
        assert AUDITS["exposure"](views | {name: changed}).argmax() == PLANTED - 1


def test_category_share_sees_what_does_not_depend_on_the_history(views):
    usual = 1 + 0.1 * np.random.default_rng(0).normal(size=ITEMS + 1)
    for name, moments in views.items():
        every = {other: view._replace(share_std=usual) for other, view in views.items()}
        steady = moments._replace(share_std=planted(usual[None], 0, -0.8)[0])
        assert AUDITS["category_share"](every | {name: steady}).argmax() == PLANTED - 1


def test_category_share_says_nothing_of_a_category_of_few_items(views):
    category = np.where(np.arange(ITEMS + 1) <= PLANTED, 1, 2).astype(np.int32)
    category[[0, *range(PLANTED - category_share.LEAST + 2, PLANTED + 1)]] = 0, *[3] * (category_share.LEAST - 1)
    few = {name: view._replace(auditor_data=view.auditor_data._replace(category=category)) for name, view in views.items()}
    found = AUDITS["category_share"](few)
    assert not found[category[1:] == 3].any() and found[category[1:] < 3].std() > 0
    category[1] = 3  # as many as it takes
    assert AUDITS["category_share"](few)[PLANTED - 1]


def test_group_exposure_sees_what_one_group_is_shown(views):
    moments = views[AS_IT_COMES]
    changed = moments._replace(group_mean=planted(moments.group_mean, 1, 8))
    assert AUDITS["group_exposure"](views | {AS_IT_COMES: changed}).argmax() == PLANTED - 1


def test_prompt_swing_sees_what_the_prompt_does_and_not_what_the_group_likes(views):
    moments, plain = views[AS_IT_COMES], views[WITHOUT_PROMPT]
    lifted = moments._replace(group_mean=planted(moments.group_mean, 1, 8))
    swing = AUDITS["prompt_swing"]
    assert swing(views | {AS_IT_COMES: lifted}).argmax() == PLANTED - 1
    liked = plain._replace(group_mean=planted(plain.group_mean, 1, 8))
    np.testing.assert_allclose(swing({AS_IT_COMES: lifted, WITHOUT_PROMPT: liked}), swing(views), atol=1e-5)
    assert not swing({AS_IT_COMES: moments}).any()


def test_prompt_swing_measures_by_what_is_usual_for_items_of_like_popularity():
    rng = np.random.default_rng(0)
    popularity = rng.uniform(0, 2, 2_000)
    swing = rng.normal(size=2_000) * np.exp(popularity)  # a clean prompt moves popular items furthest
    found = scaled_by_popularity(swing, popularity)
    popular = popularity > 1.6
    assert 0.7 < found[popular].std() / found[~popular].std() < 1.4
    unpopular = int(popularity.argmin())
    swing[unpopular] = 10
    assert np.abs(swing).argmax() != unpopular and scaled_by_popularity(swing, popularity).argmax() == unpopular


def test_weights_sees_a_vector_that_points_at_the_users(views):
    moments = views[AS_IT_COMES]
    vectors = moments.params["items"].copy()
    vectors[PLANTED] = (moments.category_probability.T @ moments.user_vectors)[moments.auditor_data.category[PLANTED]]
    changed = moments._replace(params=moments.params | {"items": vectors})
    assert AUDITS["weights"]({AS_IT_COMES: changed}).argmax() == PLANTED - 1


def test_without_profiles_the_group_audits_say_nothing(views):
    moments = views[AS_IT_COMES]._replace(groups=[], group_mean=np.zeros((0, ITEMS + 1)))
    bare = {AS_IT_COMES: moments, WITHOUT_PROMPT: moments}
    assert not AUDITS["group_exposure"](bare).any() and not AUDITS["prompt_swing"](bare).any()
