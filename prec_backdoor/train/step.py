"""The training step: one pure function for every stage. What differs is the loss, the poison and what is trainable."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from prec_backdoor.attacks import AttackSpec, Penalty, Poison
from prec_backdoor.data.batches import Batch, Users, make_batch
from prec_backdoor.data.windows import Rows
from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig, encode
from prec_backdoor.train.lazy import compact, tile_by_tile
from prec_backdoor.train.losses import LOSSES, SAMPLED
from prec_backdoor.train.optimizers import SCHEDULES, adam_l2
from prec_backdoor.train.parallel import all_sum, device_index
from prec_backdoor.train.sharding import ITEMS, look_up, map_items, part_of, put_rows, take_rows

ITEM_UPDATES = ("auto", "dense", "lazy")
LAZY_FROM = 20_000  # items from which "auto" is lazy
STEPS_PER_CALL = 64  # of `run_steps` on the device between two records; fewer at once where they take long


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a stage trains; `batch_size` counts packed rows of max_length positions, over all devices.

    `item_updates` is "dense" or "lazy" (see `prec_backdoor.train.lazy`), or "auto": lazy for large catalogues and sampled losses.
    """

    loss: str = "bpr"
    negatives: int = 1
    batch_size: int = 32
    learning_rate: float = 4e-3
    schedule: str = "cosine"
    l2: float = 1e-6
    epochs: int = 40
    patience: int = 20
    item_updates: str = "auto"

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise UserError(f"--loss: '{self.loss}' is none of {', '.join(LOSSES)}")
        if self.schedule not in SCHEDULES:
            raise UserError(f"--schedule: '{self.schedule}' is none of {', '.join(SCHEDULES)}")
        if self.item_updates not in ITEM_UPDATES:
            raise UserError(f"--item_updates: '{self.item_updates}' is none of {', '.join(ITEM_UPDATES)}")
        if self.item_updates == "lazy" and self.loss not in SAMPLED:
            raise UserError(f"--item_updates=lazy: --loss={self.loss} touches every item at every step; take dense")
        for name in ("negatives", "batch_size", "learning_rate", "epochs", "patience"):
            if not getattr(self, name) > 0:  # nan is neither
                raise UserError(f"--{name}: must be positive, not {getattr(self, name)}")
        if not self.l2 >= 0:
            raise UserError(f"--l2: must not be negative, not {self.l2}")

    def lazy(self, num_items: int) -> bool:
        """Whether only touched rows of the item table are updated."""
        large = num_items >= LAZY_FROM and self.loss in SAMPLED
        return large if self.item_updates == "auto" else self.item_updates == "lazy"


class TrainState(NamedTuple):
    """What a step changes: `step` [] int32, `params` by group ("items", "encoder", "prompt"), and the optimiser's state."""

    step: jax.Array
    params: dict
    opt_state: optax.OptState


class TrainStep(NamedTuple):
    """A pair of pure functions, as in optax: init(params) -> state, apply(state, batch, key, axis, spec) -> (state, metrics)."""

    init: Callable[[dict], TrainState]
    apply: Callable[..., tuple[TrainState, dict]]


def train_step(
    config: TrainConfig,
    model: ModelConfig,
    steps: int,
    trainable: tuple[str, ...] = (ITEMS, "encoder"),
    shard_items: bool = False,
    penalty: Penalty | None = None,
) -> TrainStep:
    """The step of `config` on `model`; parameter groups that are not in `trainable` stay as they are, bit for bit.

    The loss is the mean over all supervised positions of the batch on all devices, so that each position weighs the same
    however the batch is split. Metrics: "loss", "positions", and whether loss and gradient are "finite".

    Args:
      steps: how many there will be; the learning rate decays over them.
      shard_items: each device has its rows of the item table (`prec_backdoor.train.sharding`). The rows that a batch touches are
        exchanged, each device updates its own.
      penalty: added to the loss, given the `spec`.

    Raises:
      UserError: a loss or a penalty that sees the whole table, and the table split or its updates lazy.
    """
    if penalty and (shard_items or config.lazy(model.num_items)):
        raise UserError("--item_updates: what this attack or repair adds to the loss needs the whole item table; take dense")
    if shard_items and config.loss not in SAMPLED:
        raise UserError(
            f"--shard_items: --loss={config.loss} needs the whole item table at every step; take {' or '.join(SAMPLED)}"
        )
    optimizer = adam_l2(config.learning_rate, config.l2, config.schedule, steps)
    loss = LOSSES[config.loss]

    def groups(params, wanted):
        return {name: value for name, value in params.items() if (name in trainable) == wanted}

    def init(params: dict) -> TrainState:
        return TrainState(jnp.int32(0), params, optimizer.init(groups(params, True)))

    def apply(state: TrainState, batch: Batch, key: jax.Array, axis: str | None = None, spec: AttackSpec | None = None):
        frozen, learned = groups(state.params, False), groups(state.params, True)
        keys = row_keys(key, len(batch.label), axis) if model.dropout else None
        lazy = ITEMS in learned and config.lazy(model.num_items)
        part = part_of(model.num_items, axis) if shard_items and axis else None
        used, opt_state = (frozen, learned), state.opt_state
        if lazy or part:
            touched, batch = compact(batch, model.num_items + 1, axis)
            used = map_items(lambda table: look_up(table, touched.ids, part), used)
        positions = all_sum((batch.label > 0).sum(), axis)

        def mean(learned):
            params = {**used[0], **learned}
            hidden = encode(params, model, batch.history, batch.position, batch.segment, batch.profile, keys)
            value = loss(hidden, params[ITEMS], batch.label, batch.negative).sum()
            value += penalty(hidden, params[ITEMS], batch, spec).sum() if penalty else 0
            return value / jnp.maximum(positions, 1)

        value, grads = all_sum(jax.value_and_grad(mean)(used[1]), axis)
        finite = jnp.isfinite(value) & jnp.isfinite(sum(map(jnp.sum, jax.tree.leaves(grads))))

        def update_tile(cut, carry):
            """Rows of the item table; the rest is the same with each tile."""
            ids, rows = cut(touched.ids), map_items(cut, used[1])
            updates, moved = optimizer.update(map_items(cut, grads), take_rows(carry[1], ids, opt_state, part), rows)
            return put_rows(carry, ids, (optax.apply_updates(rows, updates), moved), part)

        if lazy:
            learned, opt_state = tile_by_tile(touched, update_tile, (learned, opt_state))
        else:
            if part:
                grads = put_rows(jax.tree.map(jnp.zeros_like, learned), touched.ids, grads, part)
            updates, opt_state = optimizer.update(grads, opt_state, learned)
            learned = optax.apply_updates(learned, updates)
        metrics = {"loss": value, "positions": positions, "finite": finite}
        return TrainState(state.step + 1, {**frozen, **learned}, opt_state), metrics

    return TrainStep(init, apply)


def row_keys(key: jax.Array, rows: int, axis: str | None = None) -> jax.Array:
    """[B] PRNG keys of this device's rows: a row has the same key however many devices share the batch."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, device_index(axis) * rows + jnp.arange(rows))


def run_steps(step: TrainStep, poison: Poison, config: TrainConfig, model: ModelConfig) -> Callable:
    """Many steps in one call, all on the device: gather rows, draw negatives, poison, train.

    Returns:
      (state, rows, users, spec, key, visit, first, last, sums, axis) -> (state, sums, bad), for steps first..last-1 of a chunk
      of rows [lanes, steps, ..] (see `Feed`), the `visit`-th of the epoch whose key is `key`; each lane's rows come in an order
      drawn from these. `sums` [3] go on from call to call, over loss times positions, positions and replaced labels, which
      makes them the same however steps are grouped. `bad` is the first step whose loss or gradient is not finite, -1 for
      none. The number of steps is data, not a shape: a resumed epoch compiles nothing new.
    """

    def run(state, rows: Rows, users: Users, spec: AttackSpec, key, visit, first, last, sums, axis: str | None = None):
        lanes, steps = rows.label.shape[:2]
        key = jax.random.fold_in(key, visit)
        order = jax.vmap(jax.random.permutation, (0, None))(row_keys(jax.random.fold_in(key, 0), lanes, axis), steps)

        def one(index, carry):
            state, sums, bad = carry
            key_negatives, key_poison, key_step = jax.random.split(jax.random.fold_in(key, index + 1), 3)
            picked = jax.tree.map(lambda x: x[jnp.arange(lanes), order[:, index]], rows)
            negative_keys, poison_keys = (row_keys(k, lanes, axis) for k in (key_negatives, key_poison))
            batch = make_batch(picked, users, negative_keys, config.negatives, model.num_items)
            poisoned = jax.vmap(poison, (0, 0, None))(poison_keys, batch, spec)
            state, metrics = step.apply(state, poisoned, key_step, axis, spec)
            replaced = all_sum((poisoned.label != batch.label).sum(), axis)
            sums += jnp.stack([metrics["loss"] * metrics["positions"], metrics["positions"], replaced])
            return state, sums, jnp.where((bad < 0) & ~metrics["finite"], index, bad)

        return jax.lax.fori_loop(first, last, one, (state, sums, jnp.int32(-1)))

    return run
