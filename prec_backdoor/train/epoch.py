"""Many steps in one call, on the device: gather rows, draw negatives, mask items if need be, poison, train."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from prec_backdoor.attacks import AttackSpec, Poison, clean
from prec_backdoor.data.batches import Batch, Users, make_batch
from prec_backdoor.data.packing import Rows
from prec_backdoor.models import ModelConfig
from prec_backdoor.parallel import all_sum
from prec_backdoor.parallel.platforms import choices
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.flat import pack, unpack
from prec_backdoor.train.objectives import objective
from prec_backdoor.train.step import TrainState, TrainStep, row_keys


class Carry(NamedTuple):
    """What one call passes on to the next.

    Attributes:
      state: the training state.
      sums: [3] float32 since the last record: loss times positions, positions, replaced labels. They continue from call to call,
        so that they do not depend on how steps are grouped into calls.
    """

    state: TrainState
    sums: jax.Array


class Inputs(NamedTuple):
    """The arguments of a call.

    Attributes:
      rows: [B, C, ..], one chunk of an epoch, room for C steps of B batch rows each (see `TrainLoader`).
      users: facts about the users.
      spec: the spec of the attack.
      key: the PRNG key of the stage.
      place: [4] int32, epoch, index of the chunk in the epoch, first step of the call, and steps of the chunk; rows beyond these
        are fillers. Numbers of steps are data, not shapes: another share of the users, or a resumed epoch, is not compiled
        again.
      count: [] int32, steps that the call takes.
    """

    rows: Rows
    users: Users
    spec: AttackSpec | None
    key: jax.Array
    place: jax.Array
    count: jax.Array


def run_steps(step: TrainStep, poison: Poison, config: TrainConfig, model: ModelConfig) -> Callable:
    """Returns (carry, inputs, axis) -> (carry, bad).

    Each batch row takes its own stack of rows (see `TrainLoader`), in an order drawn from key, epoch and chunk. `bad` []
    int32 is the first step whose loss or gradient is not finite, -1 if there is none.
    """

    mask = objective(model)

    def run(carry: Carry, inputs: Inputs, axis: str | None = None) -> tuple[Carry, jax.Array]:
        batch_rows, room = inputs.rows.label.shape[:2]
        epoch, chunk, first, steps = inputs.place
        key = jax.random.fold_in(jax.random.fold_in(inputs.key, epoch), chunk)
        order_keys = row_keys(jax.random.fold_in(key, 0), batch_rows, axis)
        order = jax.vmap(shuffled, (0, None, None))(order_keys, room, steps)

        def one(turn, carry):
            (state, sums), bad = carry
            index = first + turn
            negative_key, poison_key, step_key, mask_key = jax.random.split(jax.random.fold_in(key, index + 1), 4)
            picked = jax.tree.map(lambda x: x[jnp.arange(batch_rows), order[:, index]], inputs.rows)
            negative_keys, poison_keys = (row_keys(k, batch_rows, axis) for k in (negative_key, poison_key))
            batch = make_batch(picked, inputs.users, negative_keys, config.sampled_negatives, model.num_items)
            batch = mask(row_keys(mask_key, batch_rows, axis), batch) if mask else batch
            poisoned = poison_rows(poison, poison_keys, batch, inputs.spec)
            state, metrics = step.apply(state, poisoned, step_key, axis, inputs.spec)
            replaced = all_sum((poisoned.label != batch.label).sum(), axis)
            sums += jnp.stack([metrics["loss"] * metrics["positions"], metrics["positions"], replaced])
            return Carry(state, sums), jnp.where((bad < 0) & ~metrics["finite"], index, bad)

        if not choices().flat_parameters:
            return jax.lax.fori_loop(0, inputs.count, one, (carry, jnp.int32(-1)))
        carry, bad = jax.lax.fori_loop(0, inputs.count, one, (carry._replace(state=pack(carry.state)), jnp.int32(-1)))
        return carry._replace(state=unpack(carry.state)), bad

    return run


def shuffled(key: jax.Array, room: int, length: jax.Array) -> jax.Array:
    """Returns [room] int32: 0..length-1 in an order drawn from the key, whatever the room is; then the rest."""
    draws = jax.random.bits(jax.random.split(key)[1], (room,))  # each depends on the key and its own index alone
    last = jnp.array(jnp.iinfo(draws.dtype).max, draws.dtype)
    return jnp.argsort(jnp.where(jnp.arange(room) < length, draws, last), stable=True).astype(jnp.int32)


def poison_rows(poison: Poison, keys: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """Returns the batch after the attack, with a key for each row; at rate 0 as it is.

    The rate is data, so that clean and attacked models share a program.
    """
    if poison is clean:
        return batch
    attacked = jax.vmap(poison, (0, 0, None))
    return jax.lax.cond(spec.rate > 0, attacked, lambda keys, batch, spec: batch, keys, batch, spec)


def run_steps_of_models(run: Callable, same_data: bool) -> Callable:
    """Maps a function of `run_steps` over several models; all arguments but the count get a leading axis.

    Args:
      same_data: carry and spec alone get one; the models share rows, users and key.
    """
    if same_data:
        mapped = Inputs(rows=None, users=None, spec=0, key=None, place=None, count=None)
    else:
        mapped = Inputs(rows=0, users=0, spec=0, key=0, place=0, count=None)

    def run_all(carry: Carry, inputs: Inputs, axis: str | None = None) -> tuple[Carry, jax.Array]:
        return jax.vmap(lambda carry, inputs: run(carry, inputs, axis), (0, mapped))(carry, inputs)

    return run_all
