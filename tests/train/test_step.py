import dataclasses

import jax
import numpy as np
import pytest
from toys import (
    all_sequences,
    assert_close_trees,
    assert_same_trees,
    lively_params,
    random_interactions,
    tiny_model,
    toy_spec,
    whole_batch,
)

from prec_backdoor.attacks import clean, replace_in_group
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.packing import pack
from prec_backdoor.models import encode
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.epoch import Carry, Inputs, run_steps
from prec_backdoor.train.loader import TrainLoader
from prec_backdoor.train.losses import LOSSES
from prec_backdoor.train.step import train_step

MODEL = tiny_model(num_items=20, num_layers=1, max_length=6)
CONFIG = TrainConfig(loss="bpr", negatives=2, batch_size=3, learning_rate=0.01, schedule="constant", l2=0.1)
STEPS = 4
INTERACTIONS = random_interactions(users=14, num_items=20, lengths=(2, 9))


@pytest.fixture(scope="module")
def params():
    return lively_params(MODEL)


@pytest.fixture(scope="module")
def batch():
    return whole_batch(INTERACTIONS, MODEL.max_length, negatives=2)


@pytest.fixture(scope="module")
def step():
    """A step of CONFIG whose `apply` is compiled once for each shape of batches."""
    step = train_step(CONFIG, MODEL)
    return step._replace(apply=jax.jit(step.apply))


def mean_loss(params, batch, loss="bpr"):
    hidden = encode(params, MODEL, batch.history, batch.position, batch.segment)
    return LOSSES[loss](hidden, params["items"], batch.label, batch.negative).sum() / (batch.label > 0).sum()


GRADIENT = jax.jit(jax.value_and_grad(mean_loss), static_argnums=2)


def row_per_position(batch):
    """The same training signal in the released code's layout: a row has one label, that of its last item."""
    rows = []
    for row, at in np.argwhere(batch.label > 0):
        of_window = np.flatnonzero(batch.segment[row] == batch.segment[row, at])
        own = of_window[of_window <= at]
        length = batch.label.shape[1]

        def front_padded(values, length=length):
            return np.concatenate([np.zeros((length - len(values), *values.shape[1:]), np.int32), values])

        only_last = np.where(own == at, batch.label[row, own], 0)
        rows.append(
            [front_padded(np.asarray(values)) for values in (batch.history[row, own], only_last, batch.position[row, own])]
            + [front_padded(np.ones(len(own), np.int32)), front_padded(np.asarray(batch.negative[row, own]))]
        )
    history, label, position, segment, negative = map(np.array, zip(*rows, strict=True))
    return batch._replace(history=history, label=label, position=position, segment=segment, negative=negative)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_packed_pass_equals_a_row_for_each_position(params, batch, loss):
    oracle = row_per_position(batch)
    assert len(oracle.label) == sum(min(length - 1, 6) for length in INTERACTIONS.lengths())
    packed, single = (GRADIENT(params, each, loss) for each in (batch, oracle))
    assert_close_trees(packed, single, rtol=1e-4, atol=1e-6)


def adam_with_l2(params, moments, grads, step, rate=0.01, l2=0.1):
    """torch.optim.Adam(weight_decay=l2): Kingma & Ba, algorithm 1, after L2 went into the gradient."""
    result = {}
    for path, value in params.items():
        gradient = grads[path] + l2 * value
        first, second = moments.get(path, (0, 0))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        moments[path] = first, second
        result[path] = value - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return result


def flat(tree):
    return {jax.tree_util.keystr(path): np.asarray(x, np.float64) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def test_a_step_is_adam_with_l2_on_the_mean_loss(params, batch, step, key):
    state, expected, moments = step.init(params, STEPS), flat(params), {}
    for number in range(1, 4):
        value, grads = GRADIENT(state.params, batch, CONFIG.loss)
        expected = adam_with_l2(expected, moments, flat(grads), number)
        state, metrics = step.apply(state, batch, key)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
        assert metrics["positions"] == (batch.label > 0).sum()
        assert_close_trees(flat(state.params), expected, rtol=1e-3, atol=1e-4)
    assert state.step == 3


@pytest.mark.slow  # each operation is compiled by itself; a replay in test_loop.py takes a step without jit, too
def test_jit_and_no_jit_agree(params, batch, step, key):
    start = step.init(params, STEPS)
    state, metrics = step.apply(start, batch, key)
    with jax.disable_jit():
        plain, plain_metrics = train_step(CONFIG, MODEL).apply(start, batch, key)
    assert_close_trees(plain_metrics, metrics, rtol=1e-5)
    assert_close_trees(plain.params, state.params, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("trainable", [("items",), ("encoder",)])
def test_what_is_frozen_stays_bit_for_bit(params, batch, key, trainable):
    step = train_step(CONFIG, MODEL, trainable=trainable)
    state, apply = step.init(params, STEPS), jax.jit(step.apply)
    for _ in range(2):
        state, _ = apply(state, batch, key)
    for name in params:
        if name in trainable:
            changed = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), state.params[name], params[name])
            assert all(jax.tree.leaves(changed))
        else:
            assert_same_trees(state.params[name], params[name])


def test_rows_without_labels_change_nothing(params, batch, step, key):
    empty = jax.tree.map(lambda x: np.asarray(x)[:2], batch)
    empty = empty._replace(label=np.zeros_like(empty.label), segment=np.zeros_like(empty.segment))
    longer = jax.tree.map(lambda *parts: np.concatenate(parts), batch, empty)
    (found, metrics), (expected, wanted) = (step.apply(step.init(params, STEPS), each, key) for each in (longer, batch))
    assert_close_trees(metrics, wanted, rtol=1e-6)
    assert_close_trees(found.params, expected.params, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def epoch(params):
    """run(state, first, last, key, attacked) of run_steps on all rows, in batches the last of which is ragged; a first state; the
    rows and users; and the steps of an epoch."""
    in_group = np.arange(INTERACTIONS.num_users) % 2 == 0
    sequences = all_sequences(INTERACTIONS)
    rows, users = pack(sequences, MODEL.max_length), user_tables(INTERACTIONS, sequences, in_group)
    assert len(rows.history) % CONFIG.batch_size
    loader = TrainLoader(rows, CONFIG.batch_size)
    chunk = loader.chunk(jax.random.key(0), 0, 0)
    arrays = jax.tree.map(np.asarray, (chunk, users, toy_spec(INTERACTIONS, [1, 2], 0.5)))

    model = dataclasses.replace(MODEL, dropout=0.3)
    step = train_step(CONFIG, model)
    compiled = {poison: jax.jit(run_steps(step, poison, CONFIG, model)) for poison in (replace_in_group, clean)}

    def run(state, first, last, key, poison=replace_in_group):
        inputs = Inputs(*arrays, key, np.array((0, 0, first, loader.schedule.steps), np.int32), last - first)
        (state, sums), bad = compiled[poison](Carry(state, np.zeros(3, np.float32)), inputs)
        return state, {"loss": sums[0], "positions": sums[1], "replaced": sums[2], "bad": bad}

    return run, step.init(params, STEPS), (rows, users), loader.schedule.steps


def test_an_epoch_trains_every_position_once(epoch, key):
    run, state, (rows, users), steps = epoch
    _, metrics = run(state, 0, steps, key)
    assert metrics["positions"] == (rows.label > 0).sum()
    owners = np.take_along_axis(np.asarray(rows.user), np.maximum(rows.segment - 1, 0), 1)
    open_to_attack = np.asarray(users.in_group)[owners] & (np.asarray(rows.label) > 0)
    assert 0.2 * open_to_attack.sum() < metrics["replaced"] < 0.8 * open_to_attack.sum()
    _, metrics = run(state, 0, steps, key, clean)
    assert metrics["replaced"] == 0


def test_an_epoch_in_pieces_is_the_same_epoch(epoch, key):
    run, start, _, steps = epoch
    whole, metrics = run(start, 0, steps, key)
    assert metrics["bad"] == -1
    state = start
    for first in range(steps):
        state, _ = run(state, first, first + 1, key)
    assert_same_trees(state, whole)
    # Where all scores are equal the loss of a position is log 2; a record has the sum of it over positions.
    equal = start._replace(params={**start.params, "items": np.zeros(start.params["items"].shape, np.float32)})
    _, metrics = run(equal, 0, 1, key)
    assert metrics["positions"] > 1 and float(metrics["loss"] / metrics["positions"]) == pytest.approx(np.log(2), rel=1e-5)
    # What is reported of steps that are not finite is the first.
    broken = start._replace(params=jax.tree.map(lambda x: np.full(x.shape, np.nan, np.float32), start.params))
    assert steps >= 4 and run(broken, 1, steps, key)[1]["bad"] == 1
