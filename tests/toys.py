"""Tiny data and models that the tests share."""

import functools
import socket

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.attacks import AttackSpec, attack_parameters, make_spec
from prec_backdoor.data.batches import Batch, make_batch, user_tables
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.packing import pack
from prec_backdoor.data.splits import Sequences
from prec_backdoor.models import ModelConfig, init_params
from prec_backdoor.train.interrupt import Interrupt


def make_interactions(sequences, num_items=None, attributes=None, profile=None, category=None) -> Interactions:
    """Item codes as given; raw ids are i1, i2, ..; without `category` all items have category 1."""
    num_items = num_items or max(map(max, sequences))
    attributes = attributes or {}
    category = np.array([0, *(category or [1] * num_items)], np.int32)
    return Interactions(
        name="toy",
        items=np.concatenate(sequences).astype(np.int32),
        offsets=np.cumsum([0, *map(len, sequences)]),
        profile=np.array(profile, np.int32) if profile else np.zeros((len(sequences), len(attributes)), np.int32),
        attributes={name: ("unknown", *values) for name, values in attributes.items()},
        category=category,
        categories=("unknown", *(f"c{code}" for code in range(1, category.max() + 1))),
        user_ids=np.array([f"u{user}" for user in range(len(sequences))]),
        item_ids=np.array(["", *(f"i{item}" for item in range(1, num_items + 1))]),
        titles=np.full(num_items + 1, "", "U1"),
    )


def random_interactions(users, num_items, lengths, seed=0, **given) -> Interactions:
    """Users with sequences of random length in `lengths` (low, high), no item twice."""
    rng = np.random.default_rng(seed)
    sequences = [1 + rng.permutation(num_items)[: rng.integers(*lengths, endpoint=True)] for _ in range(users)]
    return make_interactions(sequences, num_items, **given)


def all_sequences(interactions: Interactions) -> Sequences:
    """Every user's whole sequence."""
    users = np.arange(interactions.num_users, dtype=np.int32)
    return Sequences(users, [interactions.sequence(user) for user in users])


def whole_batch(interactions: Interactions, max_length: int, in_group=None, negatives=1, key=None) -> Batch:
    """All sequences packed into one batch."""
    sequences = all_sequences(interactions)
    tables = pack(sequences, max_length), user_tables(interactions, sequences, in_group)
    rows, users = jax.tree.map(jnp.asarray, tables)
    keys = jax.random.split(jax.random.key(0) if key is None else key, len(rows.history))
    return jax.jit(make_batch, static_argnums=(3, 4))(rows, users, keys, negatives, interactions.num_items)


def tiny_model(num_items: int, **changes) -> ModelConfig:
    sizes = {"embed_dim": 8, "feedforward_dim": 12, "num_layers": 2, "num_heads": 2, "max_length": 8, "dropout": 0.0}
    return ModelConfig(num_items=num_items, **(sizes | changes))


def lively_params(config: ModelConfig, seed: int = 1) -> dict:
    """Parameters far from their start, biases too, so that nothing passes because a term happens to be zero."""
    draw = np.random.default_rng(seed).normal  # of numpy, as a program that draws takes seconds to compile

    def value(path, shape):
        middle = 1 if path[-1].key == "scale" else 0
        return jax.device_put(draw(middle, 0.5, shape.shape).astype(shape.dtype))

    return jax.tree_util.tree_map_with_path(value, _shapes(config))


@functools.cache
def _shapes(config: ModelConfig) -> dict:
    return jax.eval_shape(lambda: init_params(jax.random.key(0), config))


def toy_spec(interactions: Interactions, targets, rate, **parameters) -> AttackSpec:
    """Every user has seen their whole sequence; an attack's own parameters that are not given have their defaults."""
    seen = user_tables(interactions, all_sequences(interactions)).seen
    defaults = {name: default for name, (default, _) in attack_parameters().items()}
    return make_spec(interactions, np.array(targets), rate, defaults | parameters, seen)


def assert_share(hits, trials, share):
    """Within five standard deviations of a binomial."""
    assert abs(hits - trials * share) < 5 * np.sqrt(trials * share * (1 - share))


def assert_same_trees(found, expected):
    """Bit for bit."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def assert_close_trees(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected)


def no_log(record):
    del record


def interrupt_after(monkeypatch, calls):
    """Ctrl-C that comes while the program does its `calls`-th piece of work from now."""
    remaining = iter([False] * (calls - 1) + [True])
    monkeypatch.setattr(Interrupt, "requested", property(lambda self: next(remaining), lambda self, value: None), raising=False)


def free_port():
    """One where processes of this machine may meet."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]
