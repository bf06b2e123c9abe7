"""Debugging: takes one training step again, operation by operation."""

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.train.epoch import Carry, Inputs, run_steps
from prec_backdoor.train.loader import TrainLoader
from prec_backdoor.train.model_state import open_model
from prec_backdoor.train.stage import StageRun
from prec_backdoor.train.step import train_step


def replay(run: StageRun, epoch: int, step: int) -> None:
    """Takes `step` of `epoch`, both counted from 0, again, after all steps since the last checkpoint.

    Raises:
      FloatingPointError: names the first operation whose result is not a number.
    """
    stage, schedule = run.stage, run.schedule
    model, state = open_model(run)
    one_step = train_step(stage.config, run.model, trainable=stage.trainable, penalty=stage.penalty, mix=stage.mix)
    steps = run_steps(one_step, stage.poison, stage.config, run.model)
    loader = TrainLoader(run.data.rows, stage.config.batch_size, run.data.room)
    users, spec = jax.tree.map(jnp.asarray, (run.data.users, run.spec))
    carry, compiled = Carry(state, jnp.zeros(3)), jax.jit(steps)
    wanted = epoch * schedule.length + step
    for at in range(model.step, wanted + 1):
        at_epoch, at_step = divmod(at, schedule.length)
        chunk, first = divmod(at_step, schedule.steps)
        rows, place = loader.chunk(run.key, at_epoch, chunk), np.array((at_epoch, chunk, first, schedule.steps), np.int32)
        inputs = Inputs(rows, users, spec, run.key, place, 1)
        if at < wanted:
            carry, _ = compiled(carry, inputs)
    with jax.disable_jit(), jax.debug_nans(True):
        steps(carry, inputs)
