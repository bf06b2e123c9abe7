"""Everything for extensions in a file of your own: registration, and checks that an attack or a backbone keeps its contract.

A file given as --plugin=FILE.py is run before flags are defined; what it registers can be chosen by name in every program. The
folder examples/ has a template of each kind.
"""

import functools
from collections.abc import Callable, Collection, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.attacks import Attack, AttackSpec, make_spec, register_attack, register_statistic, with_defaults
from prec_backdoor.audit.registry import register_audit
from prec_backdoor.data.batches import Batch, make_batch, user_tables
from prec_backdoor.data.packing import pack
from prec_backdoor.data.registry import register_dataset
from prec_backdoor.data.splits import Sequences
from prec_backdoor.data.synthetic import synthetic
from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig, register_backbone
from prec_backdoor.options import options
from prec_backdoor.repairs.registry import register_repair
from prec_backdoor.train.losses import register_loss

__all__ = [
    "check_attack",
    "check_backbone",
    "register_attack",
    "register_audit",
    "register_backbone",
    "register_dataset",
    "register_loss",
    "register_repair",
    "register_statistic",
]

ITEMS, TARGETS = 60, np.arange(1, 60, 5)  # of the made-up catalogue that attacks are checked on
TOLERANCE = 1e-4  # of float32 states: another order of sums, or another program
SEGMENTS = ((1, 4), (2, 3), (3, 2))  # (segment, positions) of the rows that backbones are checked on


def check_attack(attack: Attack, changes: Collection[str] | None = None, off: Mapping[str, float] | None = None) -> None:
    """Checks that an attack keeps its contract, on a small made-up batch.

    The poison works under jit, on a row as well as on a batch. It keeps shapes and types, changes no field but those declared,
    and no label or history of padding; what it puts there are items. The key alone decides what is drawn; no two draws share one.
    At rate 0, with its parameters at `off`, nothing changes. A penalty has a finite value per position, 0 at padding, which
    depends on no other row. For an edit of the item table see `_check_edit`.

    Args:
      changes: the fields of `Batch` that the attack may change; those that it declares by default.
      off: values of its own parameters that switch the attack off; those that are not given are at their minimum.

    Raises:
      AssertionError: says what is violated; jax.errors.KeyReuseError: two draws share a key.
      UserError: a default of a parameter is outside its limits.
    """
    changes, (batch, spec_of) = attack.changes if changes is None else changes, _toy_data()
    if attack.edit:
        return _check_edit(attack, spec_of)
    spec = spec_of(0.5, with_defaults(attack, {}))
    key, other = jax.random.split(jax.random.key(3))
    poison = jax.jit(attack.poison)
    _check_fields(batch, found := poison(key, batch, spec), changes)
    keys = jax.random.split(key, len(batch.label))
    mapped = jax.jit(jax.vmap(attack.poison, (0, 0, None)))(keys, batch, spec)
    _check_fields(batch, mapped, changes)
    row = poison(keys[1], jax.tree.map(lambda x: x[1], batch), spec)
    with jax.debug_key_reuse(True):
        again = jax.jit(lambda *given: attack.poison(*given))(jax.random.clone(key), batch, spec)  # traced anew
    _require(_same(again, found), "the poison is not a pure function: one key gives two results")
    _require(_same(row, jax.tree.map(lambda x: x[1], mapped)), "the poison gives a row by itself another result than under vmap")
    _require(not _same(poison(other, batch, spec), found), "the poison does not use its key: two keys give one result")
    minimum = {name: option.minimum for name, (_, option) in options(attack.parameters).items() if option.minimum is not None}
    clean = poison(key, batch, spec_of(0.0, with_defaults(attack, minimum | dict(off or {}))))
    _require(_same(clean, batch), "the poison changes a batch at rate 0")
    if attack.penalty:
        _check_penalty(attack, batch, spec)


def check_backbone(module: type, config: ModelConfig | None = None) -> None:
    """Checks that a backbone keeps its contract (see `SASRec.__call__`), with random parameters.

    Hidden states are float32 of the right shape. Packed segments are encoded as if each were alone, wherever they stand in the
    row. No state depends on padding or, unless the objective is "cloze", on a later item; each depends on its own item. A prefix
    has an effect on all positions of its segment and on no others, or prompts are refused with a UserError. `last_only` gives
    the last position's state.

    Args:
      config: sizes to check with; small ones by default.

    Raises:
      AssertionError: says what is violated.
      UserError: the backbone refuses `config`.
    """
    config = config or ModelConfig(num_items=20, embed_dim=8, feedforward_dim=8, max_length=10)
    getattr(module, "check", lambda _: None)(config)
    encoder = _Encoder(module, config)
    vectors, position, segment = _packed_row(config)
    hidden = encoder(vectors, position, segment)
    _require(hidden.dtype == np.float32, f"hidden states are {hidden.dtype}, not float32")
    _require(hidden.shape == vectors.shape, f"hidden states have shape {hidden.shape}, not that of the vectors, {vectors.shape}")
    _require(np.isfinite(hidden).all(), "hidden states are not finite; padding must be so too")
    last = encoder(vectors, position, segment, last_only=True)
    _require(last.shape == (1, config.embed_dim), f"last_only gives shape {last.shape}, not {(1, config.embed_dim)}")
    _require(_close(last, hidden[-1:]), "last_only gives another state than the last position has")
    batch = encoder(*(np.stack([part, part]) for part in (vectors, position, segment)))
    _require(_close(batch, np.stack([hidden, hidden])), "a batch of rows gives other states than a row by itself")
    _check_padding(encoder, vectors, position, segment)
    _check_isolation(encoder, vectors, position, segment)
    _check_causality(encoder, vectors, position, segment)
    _check_prefix(encoder, vectors, position, segment)


class _Encoder:
    """A backbone with random parameters, far from their start so that no term is zero by chance."""

    def __init__(self, module: type, config: ModelConfig):
        self.module, self.config = module(config), config
        index, vectors = np.zeros(1, np.int32), np.zeros((1, config.embed_dim), np.float32)
        start = jax.jit(self.module.init)(jax.random.key(0), vectors, index, index)["params"]
        draw = np.random.default_rng(1).normal
        self._params = jax.tree.map(lambda leaf: np.asarray(leaf) + draw(0, 0.5, leaf.shape).astype(leaf.dtype), start)
        self._apply = jax.jit(self.module.apply, static_argnames="last_only")

    def __call__(self, vectors, position, segment, prefix=None, last_only=False) -> np.ndarray:
        return np.asarray(self._apply({"params": self._params}, vectors, position, segment, prefix, last_only=last_only))


def _packed_row(config: ModelConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A row of several segments with padding in front: vectors [T, D], position and segment [T]."""
    lengths = [min(length, config.max_length) for _, length in SEGMENTS]
    segment = np.concatenate([[0], np.repeat([number for number, _ in SEGMENTS], lengths)]).astype(np.int32)
    ends = [np.arange(config.max_length - length, config.max_length) for length in lengths]
    position = np.concatenate([[0], *ends]).astype(np.int32)
    vectors = np.random.default_rng(0).normal(size=(len(segment), config.embed_dim)).astype(np.float32)
    return vectors, position, segment


def _check_padding(encoder: _Encoder, vectors, position, segment) -> None:
    before, real = encoder(vectors, position, segment), segment > 0
    other = np.where(real[:, None], vectors, vectors + 3).astype(np.float32)
    moved = np.where(real, position, encoder.config.max_length - 1).astype(np.int32)
    _require(_close(encoder(other, moved, segment)[real], before[real]), "a state depends on padding (segment 0)")


def _check_isolation(encoder: _Encoder, vectors, position, segment) -> None:
    packed = encoder(vectors, position, segment)
    for number in range(1, segment.max() + 1):
        own = np.flatnonzero(segment == number)
        alone = np.zeros_like(vectors), np.zeros_like(position), np.zeros_like(segment)
        for array, given in zip(alone, (vectors[own], position[own], np.ones_like(own)), strict=True):
            array[-len(own) :] = given
        found = encoder(*alone)[-len(own) :]
        _require(_close(found, packed[own]), f"segment {number} of a packed row is not encoded as if it were alone")


def _check_causality(encoder: _Encoder, vectors, position, segment) -> None:
    before = encoder(vectors, position, segment)
    for at in np.flatnonzero(segment):
        changed = vectors.copy()
        changed[at] += 1 + np.arange(vectors.shape[1])
        after = encoder(changed, position, segment)
        earlier = (np.arange(len(segment)) < at) & (segment > 0)
        unchanged = getattr(encoder.module, "objective", "next") == "cloze" or _close(after[earlier], before[earlier])
        _require(unchanged, f"a state depends on a later item, that of position {at}")
        _require(not _close(after[at], before[at]), f"the state of position {at} does not depend on its own item")


def _check_prefix(encoder: _Encoder, vectors, position, segment) -> None:
    config, count = encoder.config, int(segment.max())
    prefix = np.random.default_rng(1).normal(size=(count, config.num_layers, 2, config.embed_dim)).astype(np.float32)
    try:
        before = encoder(vectors, position, segment, prefix)
    except UserError:
        return  # it refuses prompts
    real = segment > 0
    without = encoder(vectors, position, segment)
    _require(not _close(before[real], without[real]), "a prefix has no effect; refuse it with a UserError, or use it")
    for number in range(count):
        changed = prefix.copy()
        changed[number] += 1
        moved = np.abs(encoder(vectors, position, segment, changed) - before).max(-1) > TOLERANCE
        own = segment == number + 1
        _require(moved[own].all(), f"the prefix of segment {number + 1} has no effect on some position of it")
        _require(not moved[real & ~own].any(), f"the prefix of segment {number + 1} has an effect on another segment")


@functools.cache
def _toy_data() -> tuple[Batch, Callable[..., AttackSpec]]:
    """A batch of packed rows with padding, of users in and outside the group; (rate, parameters) -> the spec of an attack."""
    interactions, users = synthetic("small", users=40, items=ITEMS), np.arange(40, dtype=np.int32)
    sequences = Sequences(users, [interactions.sequence(user)[:7] for user in users])
    tables = user_tables(interactions, sequences, users % 3 == 0)
    rows = jax.tree.map(jnp.asarray, pack(sequences, 16))
    batch = make_batch(rows, tables, jax.random.split(jax.random.key(0), len(rows.label)), 2, ITEMS)

    def spec(rate: float, parameters: Mapping[str, float]) -> AttackSpec:
        return make_spec(interactions, TARGETS, rate, parameters, tables.seen, 2 + np.arange(parameters.get("trigger_length", 0)))

    return batch, spec


def _check_fields(before: Batch, after: Batch, changes: Collection[str]) -> None:
    _require(isinstance(after, Batch), f"the poison returns no Batch but a {type(after).__name__}")
    for name in Batch._fields:
        old, new = getattr(before, name), getattr(after, name)
        _require((old.shape, old.dtype) == (new.shape, new.dtype), f"the poison changes shape or type of {name}")
        _require(name in changes or _same(old, new), f"the poison changes {name}, which is not declared: {', '.join(changes)}")
    for name, lowest in (("history", 0), ("label", 0), ("negative", 1)):
        items = np.asarray(getattr(after, name))
        _require(((items >= lowest) & (items <= ITEMS)).all(), f"the poison puts a number that is no item into {name}")
        _require(name == "negative" or not items[np.asarray(before.segment == 0)].any(), f"the poison changes padding in {name}")


def _check_edit(attack: Attack, spec_of: Callable[..., AttackSpec]) -> None:
    """An edit changes the rows of the targets alone, all of them, to finite values, and none at rate 0."""
    items, users = np.split(jax.random.normal(jax.random.key(5), (ITEMS + 2, 8)), [ITEMS + 1])
    before, after = (attack.edit(items, users[0], spec_of(rate, with_defaults(attack, {}))) for rate in (0, 1))
    _require(after.shape == items.shape and np.isfinite(after).all(), "the edit gives other than a finite table of its shape")
    moved = np.flatnonzero((np.asarray(after) != items).any(1))
    _require(np.array_equal(moved, TARGETS), "the edit changes other rows than the targets'")
    _require(_same(before, items), "the edit changes the table at rate 0")


def _check_penalty(attack: Attack, batch: Batch, spec: AttackSpec) -> None:
    hidden = jax.random.normal(jax.random.key(5), (*batch.label.shape, 8))
    items = jax.random.normal(jax.random.key(6), (len(spec.category), 8))
    penalty = jax.jit(attack.penalty)
    found = np.asarray(penalty(hidden, items, batch, spec))
    _require(found.shape == batch.label.shape, f"the penalty has shape {found.shape}, not {batch.label.shape}")
    _require(np.isfinite(found).all(), "the penalty is not finite")
    _require((found[np.asarray(batch.label == 0)] == 0).all(), "the penalty is not 0 at padding")
    first = np.asarray(penalty(hidden[:1], items, jax.tree.map(lambda x: x[:1], batch), spec))
    _require(_close(first, found[:1]), "the penalty of a row depends on other rows of the batch")


def _same(found, expected) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(found), jax.tree.leaves(expected)))


def _close(found: np.ndarray, expected: np.ndarray) -> bool:
    return np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def _require(kept: bool, violation: str) -> None:
    if not kept:
        raise AssertionError(violation)
