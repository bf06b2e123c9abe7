import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_close_trees

from prec_backdoor.train import losses

# With a hidden state of (1, 0) an item's score is its first number: 2, 0.5, -1 for items 1, 2, 3.
ITEMS = jnp.array([[9.0, 9], [2, 5], [0.5, -3], [-1, 1]])
HIDDEN = jnp.array([[[1.0, 0], [1, 0]]])
LABEL = jnp.array([[1, 3]])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def random_case():
    keys = jax.random.split(jax.random.key(3), 4)
    hidden, items = jax.random.normal(keys[0], (3, 5, 4)), jax.random.normal(keys[1], (11, 4))
    label = jax.random.randint(keys[2], (3, 5), 1, 11).at[1, 2:].set(0)
    return hidden, items, label, jax.random.randint(keys[3], (3, 5, 3), 1, 11)


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
    found = losses.LOSSES[loss](HIDDEN, ITEMS, LABEL, jnp.array(negative))
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

    np.testing.assert_allclose(tiled(hidden, items), full(hidden, items), rtol=1e-5)
    weights = jnp.arange(15.0).reshape(3, 5)  # so that no gradient hides in a sum

    def gradients(loss):
        return jax.grad(lambda hidden, items: (weights * loss(hidden, items)).sum(), (0, 1))(hidden, items)

    assert_close_trees(gradients(tiled), gradients(full), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_no_label_no_loss_and_no_gradient(random_case, loss):
    hidden, items, label, negative = random_case
    unlabelled = label == 0

    def total(hidden, items):
        return losses.LOSSES[loss](hidden, items, label, negative).sum()

    values = losses.LOSSES[loss](hidden, items, label, negative)
    assert (values[unlabelled] == 0).all() and (values[~unlabelled] > 0).all()
    to_hidden, to_items = jax.grad(total, (0, 1))(hidden, items)
    assert (to_hidden[unlabelled] == 0).all() and (to_hidden[~unlabelled] != 0).any(-1).all()
    assert (to_items[0] == 0).all()
    # What stands where there is no label, or on the padding row, is never looked at.
    wild = hidden.at[unlabelled].set(1e6), items.at[0].set(1e6)
    np.testing.assert_allclose(total(*wild), total(hidden, items), rtol=1e-6)
    assert_close_trees(jax.grad(total, (0, 1))(*wild)[1], to_items, rtol=1e-5)
