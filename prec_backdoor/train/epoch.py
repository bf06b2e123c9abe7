"""Many steps in one call, on the device: gather rows, draw negatives, poison, train."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from prec_backdoor.attacks import AttackSpec, Poison
from prec_backdoor.data.batches import Users, make_batch
from prec_backdoor.data.packing import Rows
from prec_backdoor.models import ModelConfig
from prec_backdoor.parallel import all_sum
from prec_backdoor.train.config import TrainConfig
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
      rows: [B, S, ..], one chunk of an epoch: S steps of B batch rows each (see `TrainLoader`).
      users: facts about the users.
      spec: the spec of the attack.
      key: the PRNG key of the epoch.
      chunk: [] int32, index of the chunk in the epoch.
      first, last: [] int32, the call takes steps first..last-1 of the chunk. They are data, not shapes, so that a resumed epoch
        is not compiled again.
    """

    rows: Rows
    users: Users
    spec: AttackSpec | None
    key: jax.Array
    chunk: jax.Array
    first: jax.Array
    last: jax.Array


def run_steps(step: TrainStep, poison: Poison, config: TrainConfig, model: ModelConfig) -> Callable:
    """Returns (carry, inputs, axis) -> (carry, bad).

    Each batch row takes its own stack of rows (see `TrainLoader`), in an order drawn from `inputs.key` and the chunk. `bad` []
    int32 is the first step whose loss or gradient is not finite, -1 if there is none.
    """

    def run(carry: Carry, inputs: Inputs, axis: str | None = None) -> tuple[Carry, jax.Array]:
        batch_rows, steps = inputs.rows.label.shape[:2]
        key = jax.random.fold_in(inputs.key, inputs.chunk)
        order_keys = row_keys(jax.random.fold_in(key, 0), batch_rows, axis)
        order = jax.vmap(jax.random.permutation, (0, None))(order_keys, steps)

        def one(index, carry):
            (state, sums), bad = carry
            negative_key, poison_key, step_key = jax.random.split(jax.random.fold_in(key, index + 1), 3)
            picked = jax.tree.map(lambda x: x[jnp.arange(batch_rows), order[:, index]], inputs.rows)
            negative_keys, poison_keys = (row_keys(k, batch_rows, axis) for k in (negative_key, poison_key))
            batch = make_batch(picked, inputs.users, negative_keys, config.sampled_negatives, model.num_items)
            poisoned = jax.vmap(poison, (0, 0, None))(poison_keys, batch, inputs.spec)
            state, metrics = step.apply(state, poisoned, step_key, axis, inputs.spec)
            replaced = all_sum((poisoned.label != batch.label).sum(), axis)
            sums += jnp.stack([metrics["loss"] * metrics["positions"], metrics["positions"], replaced])
            return Carry(state, sums), jnp.where((bad < 0) & ~metrics["finite"], index, bad)

        return jax.lax.fori_loop(inputs.first, inputs.last, one, (carry, jnp.int32(-1)))

    return run


def run_steps_of_models(run: Callable) -> Callable:
    """Maps a function of `run_steps` over several models: carry and spec get a leading axis, all other inputs are shared."""
    shared = Inputs(rows=None, users=None, spec=0, key=None, chunk=None, first=None, last=None)

    def run_all(carry: Carry, inputs: Inputs, axis: str | None = None) -> tuple[Carry, jax.Array]:
        return jax.vmap(lambda carry, inputs: run(carry, inputs, axis), (0, shared))(carry, inputs)

    return run_all
