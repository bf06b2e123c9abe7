import jax
import numpy as np
import pytest

from prec_backdoor.data.packing import Rows
from prec_backdoor.train import loader
from prec_backdoor.train.loader import TrainLoader, schedule

BATCH_SIZE, ROWS = 4, 21


def numbered_rows():
    number = np.arange(1, ROWS + 1, dtype=np.int32)[:, None]
    return Rows(*(np.tile(number, (1, 3)) for _ in range(4)), user=number)


@pytest.mark.parametrize(("chunk_rows", "expected"), [(1000, (1, 6)), (12, (2, 3)), (8, (3, 2)), (1, (6, 1))])
def test_an_epoch_has_every_row_once_and_empty_ones_for_the_rest(monkeypatch, chunk_rows, expected):
    monkeypatch.setattr(loader, "CHUNK_ROWS", chunk_rows)
    assert schedule(ROWS, BATCH_SIZE) == expected
    rows = TrainLoader(numbered_rows(), BATCH_SIZE)
    chunks, steps = rows.schedule
    seen = [rows.chunk(jax.random.key(3), 0, index) for index in range(chunks)]
    assert all(chunk.history.shape == (BATCH_SIZE, steps, 3) and chunk.user.shape == (BATCH_SIZE, steps, 1) for chunk in seen)
    numbers = np.concatenate([chunk.user.ravel() for chunk in seen])
    assert sorted(numbers[numbers > 0]) == list(range(1, ROWS + 1))
    assert len(numbers) == BATCH_SIZE * chunks * steps
    assert all((chunk.label == chunk.user).all() for chunk in seen)  # fields stay together


def test_chunks_come_in_another_order_in_another_epoch(monkeypatch):
    monkeypatch.setattr(loader, "CHUNK_ROWS", 4)

    def order(key, epoch):
        rows = TrainLoader(numbered_rows(), BATCH_SIZE)
        return [rows.chunk(key, epoch, index).user[0, 0, 0].item() for index in range(rows.schedule.chunks)]

    key = jax.random.key(0)
    assert order(key, 0) == order(key, 0) != order(jax.random.key(1), 0)
    assert order(key, 0) != order(key, 1)


def test_no_more_than_two_chunks_are_held(monkeypatch):
    monkeypatch.setattr(loader, "CHUNK_ROWS", 4)
    rows, loads = TrainLoader(numbered_rows(), BATCH_SIZE), []
    monkeypatch.setattr(rows, "_load", lambda chunk: loads.append(chunk) or chunk + 1)
    for index in (0, 0, 1, 1, 2):
        rows.chunk(jax.random.key(0), 0, index)
        assert len(rows._held) == 2
    assert len(loads) == len(set(loads)) == 4  # the next one is under way before it is asked for
