"""The training step, one pure function for every stage. Stages differ in loss, poison and trainable parameters."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from prec_backdoor.attacks import AttackSpec, Penalty
from prec_backdoor.attacks.base import Mix
from prec_backdoor.data.batches import Batch
from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig, encode, item_vectors, prefixes, user_vectors
from prec_backdoor.parallel import all_sum, device_index
from prec_backdoor.parallel.item_table import ITEMS, TABLES
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.flat import close_groups, open_groups
from prec_backdoor.train.item_updates import item_access
from prec_backdoor.train.losses import LOSSES, SAMPLED
from prec_backdoor.train.optimizers import adam_l2, learning_rate

MIXING = 2**31 - 1  # folded into a step's key; rows are counted from 0


class TrainState(NamedTuple):
    """The state of training.

    Attributes:
      step, steps: [] int32, steps done, and steps of the whole stage, over which the learning rate decays.
      params: by group, "items", "encoder", "prompt"; within a call, groups may be vectors (`prec_backdoor.train.flat`).
      opt_state: of the optimiser.
    """

    step: jax.Array
    steps: jax.Array
    params: dict
    opt_state: optax.OptState


class TrainStep(NamedTuple):
    """A pair of pure functions, as in optax.

    Attributes:
      init: (params, steps) -> state, for a stage of so many steps.
      apply: (state, batch, key, axis, spec) -> (state, metrics).
    """

    init: Callable[[dict, int], TrainState]
    apply: Callable[..., tuple[TrainState, dict]]


def train_step(
    config: TrainConfig,
    model: ModelConfig,
    *,
    trainable: tuple[str, ...] = (*TABLES, "encoder"),
    shard_items: bool = False,
    penalty: Penalty | None = None,
    mix: Mix | None = None,
) -> TrainStep:
    """Returns the step of `config` on `model`. Parameter groups outside `trainable` do not change, bit for bit.

    The loss is the mean over all supervised positions of the batch on all devices, so that the weight of a position does not
    depend on how the batch is split. Metrics: "loss", "positions", and "finite", whether loss and gradient are finite.

    Args:
      shard_items: whether the item table is split over the devices (`prec_backdoor.parallel.item_table`).
      penalty: added to the loss.
      mix: makes the prompts, from those of all generators of the spec (see `Stage`).

    Raises:
      UserError: the loss or penalty needs the whole item table, but the table is split or updated lazily.
    """
    lazy = config.lazy(model.num_items)
    _check_whole_table(config, lazy, shard_items, penalty)
    peak = config.step_size(model.embed_dim)
    items = item_access(model.num_items, lazy and ITEMS in trainable, shard_items)
    total = total_loss(config, model, penalty)

    def init(params: dict, steps: int) -> TrainState:
        learned, _ = split_groups(params, trainable)
        return TrainState(jnp.int32(0), jnp.int32(steps), params, adam_l2(peak, config.l2).init(learned))

    def apply(state: TrainState, batch: Batch, key: jax.Array, axis: str | None = None, spec: AttackSpec | None = None):
        learned, frozen = split_groups(state.params, trainable)
        keys = row_keys(key, len(batch.label), axis) if model.dropout else None
        (used, fixed), batch, touched = items.read((learned, frozen), batch, axis)
        prefix = mixed_prefixes(mix, model, batch, jax.random.fold_in(key, MIXING), axis, spec) if mix else None
        positions = all_sum((batch.label > 0).sum(), axis)

        def mean_loss(used):
            return total({**fixed, **used}, batch, keys, spec, prefix) / jnp.maximum(positions, 1)

        value, grads = all_sum(jax.value_and_grad(mean_loss)(open_groups(used)), axis)
        grads = close_groups(grads, used)
        finite = jnp.isfinite(value) & jnp.isfinite(sum(map(jnp.sum, jax.tree.leaves(grads))))
        optimizer = adam_l2(learning_rate(peak, config.schedule, state.step, state.steps), config.l2)
        learned, opt_state = items.write(optimizer, (learned, state.opt_state), used, grads, touched, axis)
        metrics = {"loss": value, "positions": positions, "finite": finite}
        return TrainState(state.step + 1, state.steps, {**frozen, **learned}, opt_state), metrics

    return TrainStep(init, apply)


def total_loss(config: TrainConfig, model: ModelConfig, penalty: Penalty | None) -> Callable:
    """Returns (params, batch, keys, spec, prefix) -> [], the sum of loss and penalty over all positions.

    `keys` [B] turns dropout on; `prefix` takes the place of the model's prompts.
    """
    loss = LOSSES[config.loss]

    def total(params: dict, batch: Batch, keys: jax.Array | None, spec: AttackSpec | None, prefix: jax.Array | None) -> jax.Array:
        parts = (batch.history, batch.position, batch.segment, batch.profile)
        hidden = encode(params, model, *parts, keys=keys, prefix=prefix)
        users, items = user_vectors(hidden, model), item_vectors(params, model)
        value = loss(users, items, batch.label, batch.negative).sum()
        return value + (penalty(users, items, batch, spec).sum() if penalty else 0)

    return total


def mixed_prefixes(mix: Mix, model: ModelConfig, batch: Batch, key: jax.Array, axis: str | None, spec: AttackSpec) -> jax.Array:
    """Returns [B, S, layers, P, D], the prompts that `mix` makes for the batch."""
    made = jax.vmap(lambda prompt: prefixes(prompt, model, batch.profile))(spec.prompts)  # [G, B, S, ..]
    return jax.vmap(mix, (0, 1, None))(row_keys(key, len(batch.label), axis), made, spec)


def split_groups(params: dict, trainable: tuple[str, ...]) -> tuple[dict, dict]:
    """Returns the trainable parameter groups, and the others."""
    learned = {name: value for name, value in params.items() if name in trainable}
    return learned, {name: value for name, value in params.items() if name not in trainable}


def row_keys(key: jax.Array, rows: int, axis: str | None = None) -> jax.Array:
    """Returns [B] PRNG keys of this device's rows; a row's key does not depend on the number of devices."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, device_index(axis) * rows + jnp.arange(rows))


def _check_whole_table(config: TrainConfig, lazy: bool, shard_items: bool, penalty: Penalty | None) -> None:
    if penalty and (shard_items or lazy):
        raise UserError("--item_updates: the penalty of this attack or repair needs the whole item table; use dense")
    if shard_items and config.loss not in SAMPLED:
        raise UserError(
            f"--shard_items: --loss={config.loss} needs the whole item table at every step; use {' or '.join(SAMPLED)}"
        )
