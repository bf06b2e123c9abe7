"""The training loop of a stage, for one model or several at once: early-stopped, resumable, with explicit state."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor import parallel
from prec_backdoor.evaluation.metrics import ndcg
from prec_backdoor.evaluation.ranking import ranks
from prec_backdoor.parallel.item_table import fetch, place
from prec_backdoor.train.bar import training_bar
from prec_backdoor.train.epoch import Carry
from prec_backdoor.train.interrupt import Interrupt, Stopped
from prec_backdoor.train.model_state import ModelState, check_finite, check_params, open_model, result_of, save_model
from prec_backdoor.train.program import Program, call_devices, make_program, one_of, program_key, stack
from prec_backdoor.train.progress import Call, Progress, advance, next_call, next_pace, with_score
from prec_backdoor.train.stage import StageResult, StageRun
from prec_backdoor.train.step import TrainState


class LoopState(NamedTuple):
    """What changes: the carry on the devices, all models (those not over stand at one step), and the steps of the next call."""

    carry: Carry
    models: tuple[ModelState, ...]
    pace: int = 1

    @property
    def active(self) -> tuple[int, ...]:
        """Indices of the models that still train."""
        return tuple(index for index, model in enumerate(self.models) if not model.over)


class Turn(NamedTuple):
    """What one call of the devices did: for which models, positions trained by each, the mean loss, and seconds."""

    call: Call
    active: tuple[int, ...]
    positions: float
    loss: float
    seconds: float


def run_stage(run: StageRun) -> StageResult:
    """Trains and returns the best parameters.

    Stops after `patience` epochs without a better validation NDCG@10, or after `epochs`. With a folder, the same call continues
    an unfinished stage at the very step, or returns the result of a finished one. Ctrl-C and SIGTERM save, then raise `Stopped`.

    Raises:
      UserError: the loss or its gradient is no longer finite; the last checkpoint stays.
    """
    return run_stages([run])[0]


def run_stages(runs: Sequence[StageRun], together: bool | None = None) -> list[StageResult]:
    """Returns `run_stage` of each of several runs on the same data and key; they differ in params, spec and options.

    Args:
      together: train runs of one stage and model in one program, mapped over them. Default: on an accelerator, which one small
        model leaves idle. On 2 CPU cores four models took 1.3 times as long together as one after another.
    """
    sharded = any(run.options.shard_items for run in runs)
    together = (jax.default_backend() != "cpu" if together is None else together) and not sharded
    models, states = map(list, zip(*map(open_model, runs), strict=True))
    while waiting := [index for index, state in enumerate(states) if state is not None]:
        alike = [index for index in waiting if program_key(models[index]) == program_key(models[waiting[0]])]
        chosen = alike if together else alike[:1]
        given = [states[index] for index in chosen]
        for index in chosen:
            states[index] = None  # a large one would be in memory twice
        trained = train([models[index] for index in chosen], given)
        for index, model in zip(chosen, trained, strict=True):
            models[index] = model
    return [result_of(model) for model in models]


def train(models: Sequence[ModelState], states: list[TrainState]) -> tuple[ModelState, ...]:
    """Trains models that stand at the same step to their ends and returns them. `states` is emptied."""
    program = make_program(models)
    trace, calls = program.run.options.trace, itertools.count()
    with training_bar(program.run, len(models)) as bar, Interrupt() as interrupt:
        loop = start(program, models, states)
        bar.compiled(loop.models[0].progress)
        saved_at = time.monotonic()
        while loop.active:
            with trace.around(next(calls)) if trace else contextlib.nullcontext():
                loop, turn = take_steps(program, loop)
            if turn.call.records:
                loop = record(program, loop, turn)
            bar.update(loop.models, turn.positions, turn.loss)
            due = time.monotonic() - saved_at > program.run.options.checkpoint_seconds
            # All processes must do the same: as few steps as the slowest takes; save, and stop, if any of them has to.
            pace, go_on, early = map(int, parallel.agree([loop.pace, not interrupt.requested, not due]))
            loop = loop._replace(pace=pace)
            if not (go_on and early):
                loop, saved_at = save_unfinished(program, loop), time.monotonic()
            if not go_on:
                raise Stopped(interrupt.signum, _what_is_saved(loop))
    return loop.models


def start(program: Program, models: Sequence[ModelState], states: list[TrainState]) -> LoopState:
    """Puts the states on the devices and compiles, which a call of no step does."""
    run = program.run
    state = place(stack(states), run.model.num_items, run.options.shard_items)
    states.clear()
    loop = LoopState(Carry(state, _sums(models)), tuple(models))
    chunk = models[0].progress.done // program.loader.schedule.steps
    carry, _ = call_devices(program, loop.carry, models[0].progress.epoch, Call(chunk, 0, 0, False))
    # Two calls at once, with sums over the devices of several processes, wait for each other for ever on a CPU of few cores.
    return loop._replace(carry=jax.block_until_ready(carry))


def take_steps(program: Program, loop: LoopState) -> tuple[LoopState, Turn]:
    """Lets the devices take the next steps; raises a UserError if a model's loss or gradient is not finite."""
    active, started = loop.active, time.monotonic()
    progress = loop.models[active[0]].progress
    call = next_call(progress.done, loop.pace, program.loader.schedule)
    carry, bad = call_devices(program, loop.carry, progress.epoch, call)
    sums, bad = (np.asarray(parallel.unreplicate(each)).reshape(len(loop.models), -1) for each in (carry.sums, bad))
    seconds = time.monotonic() - started
    for index in active:
        check_finite(loop.models[index], call.chunk, int(bad[index, 0]))

    def after_call(model: ModelState, of_model: np.ndarray) -> ModelState:
        progress = advance(model.progress, call, tuple(of_model.tolist()), program.loader.schedule.length)
        return model._replace(progress=dataclasses.replace(progress, seconds=progress.seconds + seconds / len(active)))

    models = tuple(after_call(m, sums[i]) if i in active else m for i, m in enumerate(loop.models))
    positions = float(sums[active[0], 1]) - progress.sums[1]
    loss = float((sums[:, 0] / np.maximum(sums[:, 1], 1)).mean())
    return LoopState(carry, models, next_pace(call, seconds)), Turn(call, active, positions, loss, seconds)


def record(program: Program, loop: LoopState, turn: Turn) -> LoopState:
    """Logs a record of each model that took part, at the end of an epoch after validation; saves the models that are over."""
    run, models = program.run, list(loop.models)
    epoch_ends = models[turn.active[0]].progress.done == 0
    learned = fetch(loop.carry.state.params, run.model.num_items, run.options.shard_items) if epoch_ends else None
    for index in turn.active:
        model = record_model(program, models[index], one_of(program, learned, index), turn)
        models[index] = save_model(model, None) if model.over else model
    return loop._replace(models=tuple(models), carry=loop.carry._replace(sums=_sums(models)))


def record_model(program: Program, model: ModelState, params: dict | None, turn: Turn) -> ModelState:
    """Logs one record; `params` are those of the epoch's end, to be validated, and kept if they are the best."""
    run, progress, started = model.run, model.progress, time.monotonic()
    speed = len(turn.active) * turn.positions / turn.seconds
    entry = {"stage": run.stage.name, "epoch": progress.epoch, "step": model.step, "positions_per_second": speed}
    entry |= progress.means()
    best = model.best
    if params is not None:
        check_params(model, params)
        entry["validation_ndcg@10"] = score = validate(program, params)
        progress = with_score(progress, score, run.stage.keep_last)
        if progress.best_epoch == progress.epoch:
            best = jax.tree.map(np.array, params)  # a copy: the memory of the state is used again
        entry |= run.options.watch(params) if run.options.watch else {}
    seconds = progress.seconds + time.monotonic() - started
    run.options.log({**entry, "seconds": seconds})
    return model._replace(best=best, progress=dataclasses.replace(progress, sums=Progress().sums, seconds=seconds))


def validate(program: Program, params: dict) -> float:
    """NDCG@10 of the validation queries."""
    run, queries = program.run, program.queries
    profiles = np.asarray(run.data.users.profile)[queries.users]
    found = ranks(params, run.model, queries.history, queries.truth[:, None], profiles, run.options.shard_items)
    return ndcg(found[:, 0], 10)


def save_unfinished(program: Program, loop: LoopState) -> LoopState:
    """Writes a checkpoint of each model that still trains."""
    whole = fetch(loop.carry.state, program.run.model.num_items, program.run.options.shard_items)
    models = list(loop.models)
    for index in loop.active:
        state = one_of(program, whole, index)
        check_params(models[index], state.params)
        models[index] = save_model(models[index], state)
    return loop._replace(models=tuple(models))


def _what_is_saved(loop: LoopState) -> str:
    kept = [loop.models[index] for index in loop.active if loop.models[index].run.options.folder]
    return ", ".join(f"{each.run.stage.name} saved at step {each.step} in {each.run.options.folder}" for each in kept)


def _sums(models: Sequence[ModelState]):
    return parallel.replicate(stack([np.array(model.progress.sums, np.float32) for model in models]))
