import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import assert_close_trees, lively_params, random_interactions, tiny_model, whole_batch

from prec_backdoor.errors import UserError
from prec_backdoor.models import encode
from prec_backdoor.parallel.item_table import put_rows, take_rows
from prec_backdoor.train.config import LAZY_FROM, TrainConfig
from prec_backdoor.train.item_updates import NOWHERE, compact
from prec_backdoor.train.losses import LOSSES
from prec_backdoor.train.step import train_step

NUM_ITEMS = 400
MODEL = tiny_model(NUM_ITEMS, num_layers=1, max_length=6)
LAZY = TrainConfig(negatives=2, learning_rate=0.01, schedule="constant", l2=0.1, item_updates="lazy")
INTERACTIONS = random_interactions(users=9, num_items=NUM_ITEMS, lengths=(2, 5))


def batches(number):
    """Batches with other negatives each; together they leave some items untouched."""
    return [whole_batch(INTERACTIONS, MODEL.max_length, negatives=2, key=jax.random.key(seed)) for seed in range(number)]


def touched_by(batch):
    return np.unique(np.concatenate([np.ravel(field) for field in (batch.history, batch.label, batch.negative)]))


def trained(config, params, number):
    step = train_step(config, MODEL)
    apply, state = jax.jit(step.apply), step.init(params, number)
    for batch in batches(number):
        state, _ = apply(state, batch, jax.random.key(0))
    return state


def test_a_batch_is_renamed_to_places_in_the_list_of_its_items():
    (batch,) = batches(1)
    touched, renamed = compact(batch, NUM_ITEMS + 1)
    touched, count = touched
    assert touched[0] == 0 and set(np.asarray(touched[count:]).tolist()) == {NOWHERE}
    np.testing.assert_array_equal(np.sort(touched[:count]), touched_by(batch))
    for field in ("history", "label", "negative"):
        np.testing.assert_array_equal(touched[getattr(renamed, field)], getattr(batch, field))
        np.testing.assert_array_equal(getattr(renamed, field) == 0, getattr(batch, field) == 0)


def test_rows_are_written_back_where_they_were_taken():
    tree = {"items": jnp.arange(12.0).reshape(6, 2), "encoder": jnp.zeros(3), "state": ({"items": jnp.ones((6, 2))},)}
    touched = jnp.array([0, 4, 6, 2])  # 6 is out of bounds: no item
    rows = take_rows(tree, touched, tree, None)
    np.testing.assert_array_equal(rows["items"], [[0, 1], [8, 9], [0, 0], [4, 5]])
    written = put_rows(tree, touched, jax.tree.map(lambda x: x + 100, rows), None)
    np.testing.assert_array_equal(written["items"][:, 0], [100, 2, 104, 6, 108, 10])
    np.testing.assert_array_equal(written["state"][0]["items"][:, 0], [101, 1, 101, 1, 101, 1])
    np.testing.assert_array_equal(written["encoder"], [100, 100, 100])


def test_it_is_adam_on_touched_rows_and_nothing_on_the_others():
    """Against numpy, item by item, as torch's SparseAdam does it (and with L2 on the rows it touches)."""
    params = lively_params(MODEL)
    found = trained(LAZY, params, 3)
    rest = optax.chain(optax.add_decayed_weights(LAZY.l2), optax.adam(LAZY.learning_rate))

    def mean_loss(params, batch):
        hidden = encode(params, MODEL, batch.history, batch.position, batch.segment)
        return LOSSES["bpr"](hidden, params["items"], batch.label, batch.negative).sum() / (batch.label > 0).sum()

    table = np.array(params["items"], np.float64)
    first, second = np.zeros_like(table), np.zeros_like(table)
    encoder, state = params["encoder"], rest.init(params["encoder"])
    for count, batch in enumerate(batches(3), start=1):
        grads = jax.jit(jax.grad(mean_loss))({"items": jnp.asarray(table, jnp.float32), "encoder": encoder}, batch)
        for item in touched_by(batch):
            gradient = np.asarray(grads["items"][item], np.float64) + LAZY.l2 * table[item]
            first[item] = 0.9 * first[item] + 0.1 * gradient
            second[item] = 0.999 * second[item] + 0.001 * gradient**2
            unbiased = first[item] / (1 - 0.9**count), second[item] / (1 - 0.999**count)
            table[item] -= LAZY.learning_rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        updates, state = rest.update(grads["encoder"], state, encoder)
        encoder = optax.apply_updates(encoder, updates)
    np.testing.assert_allclose(found.params["items"], table, atol=2e-5)
    assert_close_trees(found.params["encoder"], encoder, atol=2e-5)
    untouched = np.setdiff1d(np.arange(1, NUM_ITEMS + 1), np.concatenate([touched_by(batch) for batch in batches(3)]))
    assert len(untouched)
    np.testing.assert_array_equal(found.params["items"][untouched], params["items"][untouched])


def test_the_whole_list_at_once_is_the_same_as_tiles(monkeypatch):
    params = lively_params(MODEL)
    in_tiles = trained(LAZY, params, 3)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    at_once = trained(LAZY, params, 3)
    assert_close_trees(at_once.params, in_tiles.params, atol=1e-6)
    assert_close_trees(at_once.opt_state, in_tiles.opt_state, atol=1e-6)


def test_the_first_step_without_l2_is_that_of_the_dense_optimiser():
    params = lively_params(MODEL)
    config = dataclasses.replace(LAZY, l2=0.0)
    dense = trained(dataclasses.replace(config, item_updates="dense"), params, 1)
    assert_close_trees(trained(config, params, 1).params, dense.params, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "item_updates", "num_items", "lazy"),
    [
        ("bpr", "auto", LAZY_FROM - 1, False),
        ("bpr", "auto", LAZY_FROM, True),
        ("ce", "auto", LAZY_FROM, False),
        ("bce", "lazy", 10, True),
        ("bce", "dense", LAZY_FROM, False),
    ],
)
def test_when_it_is_lazy(loss, item_updates, num_items, lazy):
    assert TrainConfig(loss=loss, item_updates=item_updates).lazy(num_items) == lazy


def test_a_full_softmax_cannot_be_lazy():
    with pytest.raises(UserError, match="needs every item at every step"):
        TrainConfig(loss="ce", item_updates="lazy")
