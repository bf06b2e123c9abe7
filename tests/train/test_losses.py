import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_close_trees

from prec_backdoor.train import losses

# With a hidden state of (1, 0) an item's score is its first number: 2, 0.5, -1 for items 1, 2, 3.
ITEMS = np.array([[9, 9], [2, 5], [0.5, -3], [-1, 1]], np.float32)
HIDDEN = np.array([[[1, 0], [1, 0]]], np.float32)
LABEL = np.array([[1, 3]], np.int32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def random_case():
    rng = np.random.default_rng(3)
    hidden, items = rng.normal(size=(3, 5, 4)).astype(np.float32), rng.normal(size=(11, 4)).astype(np.float32)
    label = rng.integers(1, 11, (3, 5), np.int32)
    label[1, 2:] = 0
    return hidden, items, label, rng.integers(1, 11, (3, 5, 3), np.int32)


@pytest.mark.parametrize(
    ("loss", "negative", "expected"),
    [
        ("bpr", [[[2], [2]]], [-np.log(sigmoid(1.5)), -np.log(sigmoid(-1.5))]),
        ("bce", [[[2], [2]]], [-np.log(sigmoid(2)) - np.log(sigmoid(-0.5)), -np.log(sigmoid(-1)) - np.log(sigmoid(-0.5))]),
        (
            "bce",
            [[[2, 3], [2, 1]]],
            [
                -np.log(sigmoid(2)) - (np.log(sigmoid(-0.5)) + np.log(sigmoid(1))) / 2,
                -np.log(sigmoid(-1)) - (np.log(sigmoid(-0.5)) + np.log(sigmoid(-2))) / 2,
            ],
        ),
        (
            "bpr",  # BPR-max: -log of the softmax-weighted mean of sigmoid(positive - negative)
            [[[2, 3], [1, 2]]],
            [
                -np.log((np.exp(0.5) * sigmoid(1.5) + np.exp(-1) * sigmoid(3)) / (np.exp(0.5) + np.exp(-1))),
                -np.log((np.exp(2) * sigmoid(-3) + np.exp(0.5) * sigmoid(-1.5)) / (np.exp(2) + np.exp(0.5))),
            ],
        ),
        ("ce", [[[1], [1]]], np.log(np.exp(2) + np.exp(0.5) + np.exp(-1)) - np.array([2, -1])),
    ],
)
def test_by_hand(loss, negative, expected):
    found = jax.jit(losses.LOSSES[loss])(HIDDEN, ITEMS, LABEL, np.array(negative))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


@pytest.mark.parametrize("tile", [1, 4, 5, 100])  # 11 rows of the item table: an item a tile, ragged, one tile
def test_tiled_cross_entropy_equals_the_full_softmax(random_case, tile, monkeypatch):
    monkeypatch.setattr(losses, "TILE", tile)
    hidden, items, label, negative = random_case

    def full(hidden, items):
        log_shares = jax.nn.log_softmax(jnp.einsum("btd,vd->btv", hidden, items[1:]))
        picked = jnp.take_along_axis(log_shares, jnp.maximum(label - 1, 0)[..., None], -1)[..., 0]
        return jnp.where(label > 0, -picked, 0)

    def tiled(hidden, items):
        return losses.ce(hidden, items, label, negative)

    weights = np.arange(15, dtype=np.float32).reshape(3, 5)  # so that no gradient hides in a sum

    @functools.partial(jax.jit, static_argnums=0)
    def losses_and_gradients(loss, hidden, items):
        def total(hidden, items):
            found = loss(hidden, items)
            return (weights * found).sum(), found

        gradients, found = jax.grad(total, (0, 1), has_aux=True)(hidden, items)
        return found, gradients

    (found, gradients), (expected, expected_gradients) = (losses_and_gradients(loss, hidden, items) for loss in (tiled, full))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert_close_trees(gradients, expected_gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_no_label_no_loss_and_no_gradient(random_case, loss):
    hidden, items, label, negative = random_case
    unlabelled = label == 0

    @jax.jit
    def values_and_gradients(hidden, items):
        def total(hidden, items):
            values = losses.LOSSES[loss](hidden, items, label, negative)
            return values.sum(), values

        (total, values), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(hidden, items)
        return total, values, *gradients

    total, values, to_hidden, to_items = map(np.asarray, values_and_gradients(hidden, items))
    assert (values[unlabelled] == 0).all() and (values[~unlabelled] > 0).all()
    assert (to_hidden[unlabelled] == 0).all() and (to_hidden[~unlabelled] != 0).any(-1).all()
    assert (to_items[0] == 0).all()
    # What stands where there is no label, or on the padding row, is never looked at.
    wild = hidden.copy(), items.copy()
    wild[0][unlabelled], wild[1][0] = 1e6, 1e6
    wild_total, *_, wild_to_items = values_and_gradients(*wild)
    np.testing.assert_allclose(wild_total, total, rtol=1e-6)
    np.testing.assert_allclose(wild_to_items, to_items, rtol=1e-5)
