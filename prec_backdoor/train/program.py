"""What a stage's loop runs: compiled steps, and the data that stays on the devices."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor import parallel
from prec_backdoor.attacks import AttackSpec
from prec_backdoor.data.batches import Users
from prec_backdoor.data.splits import Queries, sample_queries
from prec_backdoor.models import ModelConfig
from prec_backdoor.parallel.platforms import choices
from prec_backdoor.train.epoch import Carry, Inputs, run_steps, run_steps_of_models
from prec_backdoor.train.loader import JointLoader, TrainLoader, sizes, stack
from prec_backdoor.train.model_state import ModelState, check_negatives
from prec_backdoor.train.stage import Stage, StageRun
from prec_backdoor.train.step import train_step

TIMES, MOST_MODELS = 16, 64  # memory of a model that trains, in sizes of its parameters; models of one program
VALIDATION_USERS = 2_000  # more users would only refine when to stop


class Program(NamedTuple):
    """What stays the same during the loop: the compiled steps, and the data on the devices.

    Attributes:
      runs: of all models.
      same_data: whether all models are trained on the same rows in the same order.
      loader: of all models, or one for all if they have the same data.
      users, keys, specs: with a leading axis over models; with the same data, only the specs have one.
      queries: for validation, of each model.
      compiled: a `compile_clock`.
    """

    runs: tuple[StageRun, ...]
    steps: Callable
    same_data: bool
    loader: JointLoader
    users: Users
    keys: jax.Array
    specs: AttackSpec
    queries: tuple[Queries, ...]
    compiled: Callable[[], float]


def make_program(models: Sequence[ModelState], compiled: Callable[[], float] = lambda: 0.0) -> Program:
    """Returns the steps of the models' stage, not compiled yet, and its data, partly on the devices."""
    runs = tuple(model.run for model in models)
    run, same_data = runs[0], have_same_data(runs)
    loaded = runs[:1] if same_data else runs
    for each in loaded:
        check_negatives(each)
    return Program(
        runs=runs,
        steps=_steps(_kind(run.stage), run.model, len(runs), same_data, run.options.shard_items),
        same_data=same_data,
        loader=JointLoader([TrainLoader(each.data.rows, each.stage.config.batch_size, each.data.room) for each in loaded]),
        users=parallel.replicate(stack([each.data.users for each in loaded])),
        keys=parallel.replicate(stack([each.key for each in loaded])),
        specs=parallel.replicate(stack([each.spec for each in runs])),
        queries=tuple(sample_queries(each.data.validation, VALIDATION_USERS) for each in runs),
        compiled=compiled,
    )


class Place(NamedTuple):
    """Where a model goes on: an epoch, and a step of a chunk."""

    epoch: int
    chunk: int
    first: int


OVER = Place(0, 0, 0)  # of a model whose training has ended: what the others' calls do to its state is not looked at


def place_of(model: ModelState) -> Place:
    """Returns where the model stands."""
    chunk, first = divmod(model.progress.done, model.run.schedule.steps)
    return Place(model.progress.epoch, chunk, first)


def together(at_once: int) -> bool:
    """Whether models of one stage train together: if several may or, where 0 leaves it open, if the platform gains by that."""
    return at_once > 1 if at_once else choices().together


def models_at_once(model: ModelState, at_once: int = 0) -> int:
    """Returns how many models like this one train together: `at_once` or, if that is 0, as many as fit in the device's memory.

    Half of the memory is left for programs and data. A model whose table is split over devices is trained alone.
    """
    if model.run.options.shard_items or not together(at_once):
        return 1
    if at_once:
        return at_once
    stats = jax.local_devices()[0].memory_stats() or {}
    size = TIMES * sum(leaf.nbytes for leaf in jax.tree.leaves(model.best))
    return max(1, min(MOST_MODELS, stats.get("bytes_limit", MOST_MODELS * size) // 2 // size))


def call_devices(program: Program, carry: Carry, places: Sequence[Place], count: int) -> tuple[Carry, jax.Array]:
    """Lets each model take `count` steps from its place on; with the same data, all are at the first place.

    Returns what `run_steps` does.
    """
    loaders = program.loader.loaders
    places = places[: len(loaders)]
    rows = program.loader.chunk([(run.key, place.epoch, place.chunk) for run, place in zip(program.runs, places, strict=False)])
    at = np.array([(*place, loader.schedule.steps) for loader, place in zip(loaders, places, strict=True)], np.int32)
    at, count = parallel.replicate((at if len(loaders) > 1 else at[0], np.int32(count)))
    return program.steps(carry, Inputs(rows, program.users, program.specs, program.keys, at, count))


def one_of(program: Program, tree, index: int):
    """One model's part of a tree of `stack`."""
    return jax.tree.map(lambda x: x[index], tree) if len(program.runs) > 1 else tree


def have_same_data(runs: Sequence[StageRun]) -> bool:
    """Whether all runs train on the same rows in the same order."""
    keys = {tuple(jax.random.key_data(run.key).tolist()) for run in runs}
    return all(run.data is runs[0].data for run in runs) and len(keys) == 1


def program_key(model: ModelState) -> tuple:
    """Models with equal keys can be trained by one program, mapped over them."""
    run, progress = model.run, model.progress
    of_chunk = sizes(len(run.data.rows.history), run.stage.config.batch_size, run.data.room)
    shapes = jax.tree.map(np.shape, (run.data.rows.user[0], run.data.users, run.spec))
    return _kind(run.stage), run.model, of_chunk, str(shapes), progress.epoch, progress.done


def _kind(stage: Stage) -> Stage:
    """The stage without what its program does not depend on."""
    config = dataclasses.replace(stage.config, epochs=1, patience=1, batch_size=1)
    return dataclasses.replace(stage, name="", config=config, keep_last=False)


@functools.lru_cache(maxsize=16)
def _steps(stage: Stage, model: ModelConfig, models: int, same_data: bool, shard_items: bool) -> Callable:
    """The steps of a stage for all devices, with a leading axis over models if there are several."""
    options = {"trainable": stage.trainable, "shard_items": shard_items, "penalty": stage.penalty, "mix": stage.mix}
    step = train_step(stage.config, model, **options)
    run = run_steps(step, stage.poison, stage.config, model)
    return parallel.pmap_step(run_steps_of_models(run, same_data) if models > 1 else run)
