"""What is accumulated tile by tile against the whole [users, items] matrix."""

import jax
import numpy as np
import pytest
from toys import lively_params, tiny_model

from prec_backdoor.audit.auditor_data import AuditorData, single_groups
from prec_backdoor.audit.moments import MIN_MEMBERS, TOP, largest, observe
from prec_backdoor.audit.tiles import MOST, TILE, blocks_of_tiles
from prec_backdoor.models import represent

USERS, ITEMS = TILE + 23, 70  # the second tile is not full


@pytest.fixture(scope="module", params=[0, 1], ids=["plain", "prompted"])
def moments(request):
    return moments_of(1.0, prompted=request.param)


def moments_of(size, prompted=0):
    """Of a model whose item vectors are so many times as long as a lively one's."""
    rng = np.random.default_rng(0)
    history = np.stack([1 + rng.permutation(ITEMS)[:6] for _ in range(USERS)]).astype(np.int32)
    history[:30, :3] = 0
    profile = rng.integers(0, 3, (USERS, 2)).astype(np.int32)
    category = np.concatenate([[0], rng.integers(1, 5, ITEMS)]).astype(np.int32)
    auditor_data = AuditorData(history, profile, {"a": ("unknown", "x", "y"), "b": ("unknown", "x", "y")}, category)
    model = tiny_model(ITEMS, **({"prompt_length": 1, "profile_sizes": (3, 3)} if prompted else {}))
    params = lively_params(model)
    return observe(params | {"items": size * params["items"]}, model, auditor_data)


def test_moments_are_those_of_the_matrix(moments):
    auditor_data, params = moments.auditor_data, moments.params
    given = auditor_data.profile if moments.model.prompt_length else None
    hidden = np.asarray(jax.jit(represent, static_argnums=1)(params, moments.model, auditor_data.history, given))
    np.testing.assert_allclose(moments.user_vectors, hidden, rtol=1e-5, atol=1e-5)
    scores = hidden @ params["items"].T
    allowed = np.ones(scores.shape, bool)
    np.put_along_axis(allowed, auditor_data.history, False, axis=1)
    allowed[:, 0] = False
    masked = np.where(allowed, scores, np.nan)
    z = (masked - np.nanmean(masked, 1, keepdims=True)) / np.nanstd(masked, 1, keepdims=True)

    odds = np.exp(np.where(allowed, scores, -np.inf) - np.nanmax(masked, 1, keepdims=True))
    share = odds / odds.sum(1, keepdims=True)
    context = np.stack([share[:, auditor_data.category == code].sum(1) for code in range(5)], 1)
    np.testing.assert_allclose(moments.category_probability, context, atol=1e-5)
    weight = context[:, auditor_data.category] * allowed
    filled = np.nan_to_num(z)
    mean = (weight * filled).sum(0)[1:] / weight.sum(0)[1:]
    np.testing.assert_allclose(moments.mean[1:], mean, atol=1e-4)
    spread = (weight[:, 1:] * (filled[:, 1:] - mean) ** 2).sum(0) / weight.sum(0)[1:]
    np.testing.assert_allclose(moments.std[1:], np.sqrt(spread), atol=1e-3)
    log_share = np.log(np.where(allowed, share / np.maximum(context[:, auditor_data.category], 1e-30), 1))[:, 1:]
    middle = (weight[:, 1:] * log_share).sum(0) / weight.sum(0)[1:]
    spread = (weight[:, 1:] * (log_share - middle) ** 2).sum(0) / weight.sum(0)[1:]
    np.testing.assert_allclose(moments.share_std[1:], np.sqrt(spread), atol=1e-2)
    np.testing.assert_allclose(moments.plain_mean[1:], np.nanmean(z[:, 1:], 0), atol=1e-4)

    place = (-np.where(allowed, scores, -np.inf)).argsort(1).argsort(1)
    shown = ((place < TOP) & allowed).sum(0) / np.maximum(allowed.sum(0), 1)
    np.testing.assert_allclose(moments.top_share[1:], shown[1:], atol=1e-6)

    groups = single_groups(auditor_data, MIN_MEMBERS)
    assert moments.groups == list(groups) and len(groups) == 4
    for row, members in enumerate(groups.values()):
        assert moments.group_size[row] == members.sum()
        np.testing.assert_allclose(moments.group_mean[row, 1:], np.nanmean(z[members][:, 1:], 0), atol=1e-4)
        np.testing.assert_allclose(moments.group_std[row, 1:], np.nanstd(z[members][:, 1:], 0), atol=1e-3)


def test_whoever_fills_up_a_tile_does_not_count_however_long_the_vectors():
    found = moments_of(1e13)
    assert np.isfinite(found.group_mean).all() and np.isfinite(found.group_std).all()


@pytest.mark.parametrize("users", [1, TILE, TILE * MOST, TILE * MOST + 1, 3 * TILE * MOST - 5])
def test_blocks_have_every_user_once_and_little_padding(users):
    numbers = np.arange(1, users + 1)[:, None]
    blocks = list(blocks_of_tiles(numbers, numbers > 0))
    assert len({array.shape for _, (array, _) in blocks}) == 1 and all(len(array) <= MOST for _, (array, _) in blocks)
    found = np.concatenate([array.ravel()[:number] for number, (array, _) in blocks])
    np.testing.assert_array_equal(found, numbers[:, 0])
    assert sum(present.sum() for _, (_, present) in blocks) == users
    assert sum(array.size for _, (array, _) in blocks) < users + TILE * (1 + len(blocks))


@pytest.mark.parametrize("rows", [5, 64, 200, 3_000])
def test_the_largest_entries_with_their_rows(rows):
    scores = np.random.default_rng(1).permutation(4 * rows).reshape(rows, 4).astype(np.float32)
    found, places = largest(scores, 5)
    np.testing.assert_array_equal(found, -np.sort(-scores, axis=0)[:5])
    np.testing.assert_array_equal(places, np.argsort(-scores, axis=0)[:5])
