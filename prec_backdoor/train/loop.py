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
from prec_backdoor.data.splits import Queries, sample_queries
from prec_backdoor.evaluation.metrics import ndcg
from prec_backdoor.evaluation.ranking import ranks
from prec_backdoor.parallel.item_table import fetch, place
from prec_backdoor.train.bar import training_bar
from prec_backdoor.train.clock import compile_clock, timed
from prec_backdoor.train.epoch import Carry
from prec_backdoor.train.interrupt import Interrupt, Stopped
from prec_backdoor.train.loader import stack
from prec_backdoor.train.model_state import ModelState, check_finite, check_params, open_model, result_of, save_model
from prec_backdoor.train.program import (
    OVER,
    VALIDATION_USERS,
    Program,
    call_devices,
    have_same_data,
    make_program,
    models_at_once,
    one_of,
    place_of,
    program_key,
    together,
)
from prec_backdoor.train.progress import Call, Progress, advance, next_call, next_pace, spend, with_score
from prec_backdoor.train.stage import StageResult, StageRun
from prec_backdoor.train.step import TrainState


class LoopState(NamedTuple):
    """What changes: the carry on the devices, all models, and the steps of the next call."""

    carry: Carry
    models: tuple[ModelState, ...]
    pace: int = 1

    @property
    def active(self) -> tuple[int, ...]:
        """Indices of the models that still train."""
        return tuple(index for index, model in enumerate(self.models) if not model.over)


class Turn(NamedTuple):
    """What one call of the devices did: the call of each model that trains, by its index; positions, mean loss and seconds."""

    calls: dict[int, Call]
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
    model, state = _opened(run)
    return result_of(model if state is None else train([model], [state])[0])


def run_stages(runs: Sequence[StageRun], at_once: int = 0) -> list[StageResult]:
    """Returns `run_stage` of each of several runs.

    Runs of one kind of stage, model and size of data can train together, in one program that is mapped over them. Each has its
    own early stopping, checkpoints, log and key, and ends as it does alone, but for rounding.

    Args:
      at_once: number of models that train together, at most; 0 for as many as the devices gain by (see `models_at_once`).
    """
    if not together(at_once):
        return [run_stage(run) for run in runs]  # one state is in memory at a time
    models, states = map(list, zip(*map(_opened, runs), strict=True))
    states = jax.device_get(states)  # the devices have room for those that train
    while waiting := [index for index, state in enumerate(states) if state is not None]:
        first = models[waiting[0]]
        alike = [index for index in waiting if program_key(models[index]) == program_key(first)]
        chosen = alike[: models_at_once(first, at_once)]
        if parallel.num_devices() > 1 and not have_same_data([models[index].run for index in chosen]):
            chosen = chosen[:1]
        given = [states[index] for index in chosen]
        for index in chosen:
            states[index] = None  # a large one would be in memory twice
        trained = train([models[index] for index in chosen], given)
        for index, model in zip(chosen, trained, strict=True):
            models[index] = model
    return [result_of(model) for model in models]


def _opened(run: StageRun) -> tuple[ModelState, TrainState | None]:
    """`open_model`; of a stage that trains nothing, the model is finished after this."""
    model, state = open_model(run)
    if state is None or run.stage.change is None:
        return model, state
    queries = sample_queries(run.data.validation, VALIDATION_USERS)
    with compile_clock() as compiled:
        params, spent = timed("change", compiled, lambda: jax.tree.map(np.asarray, run.stage.change(model.best)))
        check_params(model, params)
        score, more = timed("validate", compiled, lambda: validate(run, queries, params))
    progress = dataclasses.replace(spend(spend(model.progress, spent), more), best_score=score)
    return save_model(model._replace(best=params, progress=progress), None), None


def train(models: Sequence[ModelState], states: list[TrainState]) -> tuple[ModelState, ...]:
    """Trains models that stand at the same step to their ends and returns them. `states` is emptied."""
    calls = itertools.count()
    with compile_clock() as compiled, training_bar(models[0].run, len(models)) as bar, Interrupt() as interrupt:
        program = make_program(models, compiled)
        options, loop = program.runs[0].options, start(program, models, states)
        bar.compiled(loop.models[0].progress)
        saved_at = time.monotonic()
        while loop.active:
            with options.trace.around(next(calls)) if options.trace else contextlib.nullcontext():
                loop, turn = take_steps(program, loop)
            if any(call.records for call in turn.calls.values()):
                loop = record(program, loop, turn)
            bar.update(loop.models, turn.positions / len(turn.calls), turn.loss)
            due = time.monotonic() - saved_at > options.checkpoint_seconds
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
    run, started = program.runs[0], time.monotonic()
    state = place(stack(states), run.model.num_items, run.options.shard_items)
    states.clear()
    loop = LoopState(Carry(state, _sums(models)), tuple(models))
    carry, _ = call_devices(program, loop.carry, [place_of(model) for model in models], 0)
    # Two calls at once, with sums over the devices of several processes, wait for each other for ever on a CPU of few cores.
    carry, spent = jax.block_until_ready(carry), {"compile": (time.monotonic() - started) / len(models)}
    return LoopState(carry, tuple(model._replace(progress=spend(model.progress, spent)) for model in models))


def take_steps(program: Program, loop: LoopState) -> tuple[LoopState, Turn]:
    """Lets the devices take the next steps; raises a UserError if a model's loss or gradient is not finite."""
    active, started = loop.active, time.monotonic()
    standing = {index: (loop.models[index].progress.done, loop.models[index].run.schedule) for index in active}
    count = min(next_call(done, loop.pace, schedule).steps for done, schedule in standing.values())
    calls = {index: next_call(done, count, schedule) for index, (done, schedule) in standing.items()}
    places = [OVER if model.over else place_of(model) for model in loop.models]
    carry, bad = call_devices(program, loop.carry, [places[active[0]]] if program.same_data else places, count)
    sums, bad = (np.asarray(parallel.unreplicate(each)).reshape(len(loop.models), -1) for each in (carry.sums, bad))
    seconds = time.monotonic() - started
    for index, call in calls.items():
        check_finite(loop.models[index], call.chunk, int(bad[index, 0]))

    def after_call(index: int, model: ModelState) -> ModelState:
        progress = advance(model.progress, calls[index], tuple(sums[index].tolist()), model.run.schedule.length)
        return model._replace(progress=spend(progress, {"train": seconds}, 1 / len(calls)))

    models = tuple(after_call(i, model) if i in calls else model for i, model in enumerate(loop.models))
    positions = sum(float(sums[index, 1]) - loop.models[index].progress.sums[1] for index in calls)
    loss = float((sums[:, 0] / np.maximum(sums[:, 1], 1)).mean())
    return LoopState(carry, models, next_pace(calls[active[0]], seconds)), Turn(calls, positions, loss, seconds)


def record(program: Program, loop: LoopState, turn: Turn) -> LoopState:
    """Logs the records that are due, at the end of a model's epoch after validation; saves the models that are over."""
    run, models = program.runs[0], list(loop.models)
    due = [index for index, call in turn.calls.items() if call.records]
    epoch_ends = any(models[index].progress.done == 0 for index in due)
    learned = fetch(loop.carry.state.params, run.model.num_items, run.options.shard_items) if epoch_ends else None
    for index in due:
        params = one_of(program, learned, index) if models[index].progress.done == 0 else None
        model = record_model(program, index, models[index], params, turn)
        models[index] = save_model(model, None) if model.over else model
    return loop._replace(models=tuple(models), carry=loop.carry._replace(sums=_sums(models)))


def record_model(program: Program, index: int, model: ModelState, params: dict | None, turn: Turn) -> ModelState:
    """Logs one record; `params` are those of the epoch's end, to be validated, and kept if they are the best."""
    run, progress, speed = model.run, model.progress, turn.positions / turn.seconds
    entry = {"stage": run.stage.name, "epoch": progress.epoch, "step": model.step, "positions_per_second": speed}
    entry |= progress.means()
    best = model.best
    if params is not None:
        check_params(model, params)
        score, spent = timed("validate", program.compiled, lambda: validate(run, program.queries[index], params))
        progress, entry["validation_ndcg@10"] = spend(progress, spent), score
        progress = with_score(progress, score, run.stage.keep_last)
        if progress.best_epoch == progress.epoch:
            best = jax.tree.map(np.array, params)  # a copy: the memory of the state is used again
        entry |= run.options.watch(params) if run.options.watch else {}
    run.options.log({**entry, "seconds": sum(progress.seconds.values())})
    return model._replace(best=best, progress=dataclasses.replace(progress, sums=Progress().sums))


def validate(run: StageRun, queries: Queries, params: dict) -> float:
    """NDCG@10 of validation queries."""
    profiles = np.asarray(run.data.users.profile)[queries.users]
    found = ranks(params, run.model, queries.history, queries.truth[:, None], profiles, run.options.shard_items)
    return ndcg(found[:, 0], 10)


def save_unfinished(program: Program, loop: LoopState) -> LoopState:
    """Writes a checkpoint of each model that still trains."""
    run = program.runs[0]
    whole = fetch(loop.carry.state, run.model.num_items, run.options.shard_items)
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
