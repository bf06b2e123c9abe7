"""What a stage's loop runs: compiled steps, and the data that stays on the devices."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from prec_backdoor import parallel
from prec_backdoor.attacks import AttackSpec
from prec_backdoor.data.batches import Users
from prec_backdoor.data.splits import Queries, sample_queries
from prec_backdoor.models import ModelConfig
from prec_backdoor.train.epoch import Carry, Inputs, run_steps, run_steps_of_models
from prec_backdoor.train.loader import TrainLoader
from prec_backdoor.train.model_state import ModelState, check_negatives
from prec_backdoor.train.progress import Call
from prec_backdoor.train.stage import Stage, StageRun
from prec_backdoor.train.step import train_step

VALIDATION_USERS = 2_000  # more users would only refine when to stop


class Program(NamedTuple):
    """What stays the same during the loop: the compiled steps, the stage's data, and what lies on the devices."""

    run: StageRun  # the first model's; the others have the same stage, model, data and key
    steps: Callable
    loader: TrainLoader
    users: Users
    specs: AttackSpec
    queries: Queries
    mapped: bool


def make_program(models: Sequence[ModelState]) -> Program:
    """Returns the steps of the models' stage, not compiled yet, and its data, partly on the devices."""
    run, mapped = models[0].run, len(models) > 1
    check_negatives(run)
    return Program(
        run=run,
        steps=_steps(run.stage, run.model, run.schedule.length, mapped, run.options.shard_items),
        loader=TrainLoader(run.data.rows, run.stage.config.batch_size),
        users=parallel.replicate(run.data.users),
        specs=parallel.replicate(stack([model.run.spec for model in models])),
        queries=sample_queries(run.data.validation, VALIDATION_USERS),
        mapped=mapped,
    )


def call_devices(program: Program, carry: Carry, epoch: int, call: Call) -> tuple[Carry, jax.Array]:
    """Takes the steps of one call; returns what `run_steps` does."""
    key = jax.random.fold_in(program.run.key, epoch)
    where = parallel.replicate((key, call.chunk, call.first, call.last))
    return program.steps(carry, Inputs(program.loader.chunk(key, call.chunk), program.users, program.specs, *where))


def stack(trees: Sequence):
    """Trees with a leading axis over models; a single model has none."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if len(trees) > 1 else trees[0]


def one_of(program: Program, tree, index: int):
    """One model's part of a tree of `stack`."""
    return jax.tree.map(lambda x: x[index], tree) if program.mapped else tree


def program_key(model: ModelState) -> tuple:
    """Runs with equal keys can share one program, mapped over them."""
    return model.run.stage, model.run.model, model.progress.epoch, model.progress.done


@functools.lru_cache(maxsize=16)
def _steps(stage: Stage, model: ModelConfig, steps: int, mapped: bool, shard_items: bool) -> Callable:
    """The steps of a stage for all devices, with a leading axis over models if `mapped`."""
    options = {"trainable": stage.trainable, "shard_items": shard_items, "penalty": stage.penalty}
    step = train_step(stage.config, model, steps * stage.config.epochs, **options)
    run = run_steps(step, stage.poison, stage.config, model)
    return parallel.pmap_step(run_steps_of_models(run) if mapped else run)
