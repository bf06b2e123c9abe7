"""Independence of randomness: no two draws of a stage share a key, whatever they are for."""

import itertools

import jax
import pytest
from toys import random_interactions, tiny_model, toy_spec

from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.packing import pack
from prec_backdoor.data.splits import split_users
from prec_backdoor.models import init_params
from prec_backdoor.train import epoch, loader, step
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import Stage, StageData, StageRun

INTERACTIONS = random_interactions(users=24, num_items=20, lengths=(6, 9))
MODEL = tiny_model(num_items=20, num_layers=1, max_length=6, dropout=0.2)
CONFIG = TrainConfig(batch_size=3, epochs=2)


class Keys:
    """What each use was given: a list of keys, as pairs of numbers."""

    def __init__(self):
        self.by_use = {"order": [], "negatives": [], "poison": [], "dropout": []}

    def note(self, use, keys):
        """Called while the program is traced; the keys come whenever it runs."""
        found = self.by_use[use]
        jax.debug.callback(lambda data: found.extend(map(tuple, data.reshape(-1, 2).tolist())), jax.random.key_data(keys))


@pytest.fixture
def keys(monkeypatch):
    """The keys that training uses, noted where each is used up."""
    noted, make_batch, encode, shuffled = Keys(), epoch.make_batch, step.encode, epoch.shuffled

    def noting_make_batch(rows, users, keys, *others):
        noted.note("negatives", keys)
        return make_batch(rows, users, keys, *others)

    def noting_encode(*args, keys, **prefix):
        noted.note("dropout", keys)
        return encode(*args, keys=keys, **prefix)

    def noting_shuffled(key, room, length):
        noted.note("order", key)
        return shuffled(key, room, length)

    monkeypatch.setattr(epoch, "make_batch", noting_make_batch)
    monkeypatch.setattr(step, "encode", noting_encode)
    monkeypatch.setattr(epoch, "shuffled", noting_shuffled)
    return noted


def stage_run(poison, key):
    split = split_users(INTERACTIONS, seed=0, max_length=MODEL.max_length)
    rows = pack(split.pretrain, MODEL.max_length)
    data = StageData(rows, user_tables(INTERACTIONS, split.pretrain), split.pretrain_validation)
    return StageRun(
        Stage("pretrain", CONFIG, poison), MODEL, init_params(key, MODEL), data, toy_spec(INTERACTIONS, [1], 0.5), key
    )


def test_no_two_draws_share_a_key(keys, key, monkeypatch):
    """Over epochs, chunks, steps and rows, and over what is drawn: orders of rows, negatives, poison, dropout."""
    monkeypatch.setattr(loader, "CHUNK_ROWS", 6)

    def noting_poison(key, batch, spec):
        keys.note("poison", key)
        return batch

    run = stage_run(noting_poison, key)
    assert run.schedule.chunks >= 2 and run.schedule.steps >= 2
    run_stage(run)
    jax.effects_barrier()
    steps, rows = CONFIG.epochs * run.schedule.length, CONFIG.batch_size
    used = {use: set(of_use) for use, of_use in keys.by_use.items()}
    assert {use: len(of_use) for use, of_use in used.items()} == {
        "order": CONFIG.epochs * run.schedule.chunks * rows,  # the same for every call of a chunk
        **{use: steps * rows for use in ("negatives", "poison", "dropout")},
    }
    for one, other in itertools.combinations(used, 2):
        assert not used[one] & used[other], (one, other)
    # Each step is taken once: no key is used up twice.
    assert all(len(keys.by_use[use]) == len(used[use]) for use in ("negatives", "poison", "dropout"))
