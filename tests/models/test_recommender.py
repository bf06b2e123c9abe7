import jax
import numpy as np
import pytest
from toys import all_sequences, lively_params, random_interactions, tiny_model

from prec_backdoor.data.packing import pack
from prec_backdoor.errors import UserError
from prec_backdoor.models import backbone, encode, init_params, recommender, represent

ENCODE, REPRESENT = (jax.jit(function, static_argnums=1) for function in (encode, represent))
MODEL = tiny_model(num_items=15, max_length=6)


def test_a_history_is_represented_by_its_last_packed_position():
    sequences = all_sequences(random_interactions(users=9, num_items=15, lengths=(2, 7)))
    params, rows = lively_params(MODEL), pack(sequences, MODEL.max_length)
    hidden = np.asarray(ENCODE(params, MODEL, rows.history, rows.position, rows.segment))
    last = (rows.position == MODEL.max_length - 1) & (rows.segment > 0)
    assert last.sum() == len(sequences.users)
    owners = np.take_along_axis(rows.user, np.maximum(rows.segment - 1, 0), 1)[last]
    for length in (6, 4):
        fits = np.array([len(sequences.items[user]) - 1 <= length for user in owners])
        histories = [sequences.items[user][:-1] for user in owners[fits]]
        padded = np.array([[0] * (length - len(history)) + history.tolist() for history in histories])
        np.testing.assert_allclose(REPRESENT(params, MODEL, padded), hidden[last][fits], atol=1e-5)


def test_dropout_depends_on_each_rows_key_alone():
    model = tiny_model(num_items=15, max_length=6, dropout=0.5)
    params, history = lively_params(model), np.tile(np.arange(1, 7, dtype=np.int32), (3, 1))
    position, segment = np.tile(np.arange(6), (3, 1)), np.ones((3, 6), np.int32)
    keys = jax.random.split(jax.random.key(0), 3)
    together = np.asarray(ENCODE(params, model, history, position, segment, keys=keys))
    alone = np.asarray(ENCODE(params, model, history[:1], position[:1], segment[:1], keys=keys[2:]))
    np.testing.assert_allclose(together[2], alone[0], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.1
    without = np.asarray(ENCODE(params, model, history, position, segment))
    np.testing.assert_array_equal(without[0], without[1])


def test_initial_parameters(key):
    params = init_params(key, MODEL)
    assert params["items"].shape == (16, MODEL.embed_dim)
    assert 0.01 < params["items"].std() < 0.03


def test_a_large_table_is_drawn_in_blocks(key, monkeypatch):
    monkeypatch.setattr(recommender, "BLOCK", 100)
    table = np.asarray(recommender._table(key, 250, 8))
    for block in (table[:100], table[100:200], table[150:]):
        assert 0.018 < block.std() < 0.022 and abs(block.mean()) < 0.003
    assert len(np.unique(table)) == table.size


def test_unknown_backbone():
    with pytest.raises(UserError, match="--backbone: must be one of sasrec.*, got 'rnn'"):
        backbone(tiny_model(num_items=3, backbone="rnn"))
