"""Stages: one training run of one step on one share of the data, early-stopped and resumable."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor import checkpoints
from prec_backdoor.attacks import AttackSpec, Poison, clean
from prec_backdoor.data.batches import Users
from prec_backdoor.data.splits import Queries
from prec_backdoor.data.windows import Rows
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation.metrics import ndcg
from prec_backdoor.evaluation.ranking import ranks
from prec_backdoor.models import ModelConfig
from prec_backdoor.train import parallel
from prec_backdoor.train.interrupt import Interrupt
from prec_backdoor.train.step import TrainConfig, run_steps, train_step

STEPS_PER_CALL = 64  # steps on the device between two looks of the host
SECONDS_PER_CHECKPOINT = 20
VALIDATION_USERS = 2_000  # the first of the shuffled validation users; more would only sharpen when to stop


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage does: which parameters learn, from which loss, on which poison, for how long."""

    name: str
    config: TrainConfig
    poison: Poison = clean
    trainable: tuple[str, ...] = ("items", "encoder")


class StageData(NamedTuple):
    """What a stage trains on, and the users whose next items tell when to stop."""

    rows: Rows
    users: Users
    validation: Queries


class StageResult(NamedTuple):
    """The best parameters by validation NDCG@10 (numpy, unreplicated), when they were found, and how long the stage took."""

    params: dict
    score: float
    epoch: int
    seconds: float
    hash: str


@dataclasses.dataclass
class _Progress:
    """Where a stage stands; goes into the checkpoint's metadata."""

    epoch: int = 0  # epochs completed
    done: int = 0  # steps done in the current one
    best_epoch: int = 0
    best_score: float = -1.0
    seconds: float = 0.0


def run_stage(
    stage: Stage,
    model: ModelConfig,
    params: dict,
    data: StageData,
    spec: AttackSpec,
    key: jax.Array,
    folder: Path | None = None,
    metadata: dict | None = None,
    log: Callable[[dict], None] = lambda record: None,
) -> StageResult:
    """Trains `params` and returns the best ones.

    Stops after `patience` epochs without a better validation NDCG@10, or after `epochs`. With a `folder`, checkpoints
    go to folder/checkpoints, and the same call continues an unfinished stage at the very step, or returns the result of a
    finished one. Ctrl-C saves and then raises KeyboardInterrupt. All randomness comes from `key`, the epoch and the step.

    Args:
      params: starting point, unreplicated.
      metadata: added to the checkpoint's: dataset, config, parent.
      log: called with a record an epoch.

    Raises:
      UserError: the loss is no longer finite.
    """
    config = stage.config
    steps = -(-len(data.rows.history) // config.batch_size)
    step = train_step(config, model, steps * config.epochs, stage.trainable)
    run = parallel.pmap_step(run_steps(step, stage.poison, config, model))
    params = jax.tree.map(np.asarray, params)
    state, best, progress = step.init(jax.tree.map(jnp.array, params)), params, _Progress()

    if folder is not None and (found := checkpoints.resume(folder / "checkpoints", params, state)):
        best, training, saved = found
        progress = _Progress(**saved["progress"])
        if saved["finished"]:
            return _result(best, progress)
        state = jax.tree.map(jnp.array, training)

    def save(finished: bool) -> None:
        if folder is None:
            return
        description = {
            **(metadata or {}),
            "stage": stage.name,
            "model": dataclasses.asdict(model),
            "finished": finished,
            "progress": dataclasses.asdict(progress),
        }
        host = jax.tree.map(np.asarray, parallel.unreplicate(state))
        checkpoints.save(folder / "checkpoints", int(host.step), best, None if finished else host, description)

    def over() -> bool:
        return progress.epoch >= config.epochs or progress.epoch - progress.best_epoch >= config.patience

    positions = int((data.rows.label > 0).sum())
    validation = _subset(data.validation, VALIDATION_USERS)
    arrays = parallel.replicate((data.rows, data.users, spec))
    state = parallel.replicate(state)
    last_saved = time.monotonic()
    bar = tqdm(total=config.epochs * positions, unit="pos", unit_scale=True, desc=stage.name, leave=False, disable=None)
    with bar, Interrupt() as interrupt:
        bar.update(progress.epoch * positions)
        while not over():
            started = time.monotonic()
            epoch_key = jax.random.fold_in(key, progress.epoch)
            first, stop = progress.done, min(progress.done + STEPS_PER_CALL, steps)
            state, metrics = run(state, *arrays, *parallel.replicate((epoch_key, first, stop)))
            metrics = {name: float(value) for name, value in parallel.unreplicate(metrics).items()}
            bar.update(metrics["positions"])
            bar.set_postfix(loss=f"{metrics['loss']:.4f}", best=f"{max(progress.best_score, 0):.4f}", refresh=False)
            progress.done = stop % steps
            record = {**metrics, "positions_per_second": metrics["positions"] / (time.monotonic() - started)}
            if not progress.done:
                progress.epoch += 1
                record["validation_ndcg@10"] = score = _validate(parallel.unreplicate(state.params), model, validation)
                if score > progress.best_score:
                    progress.best_score, progress.best_epoch = score, progress.epoch
                    best = jax.tree.map(np.asarray, parallel.unreplicate(state.params))
            progress.seconds += time.monotonic() - started
            step_count = int(parallel.unreplicate(state.step))
            log({"stage": stage.name, "epoch": progress.epoch, "step": step_count, **record, "seconds": progress.seconds})
            if not np.isfinite(record["loss"]):
                raise UserError(f"{stage.name}: the loss is {record['loss']} at step {step_count}; lower the learning rate")
            if over():
                break  # what is saved at the last step must be the finished stage
            if interrupt.requested:
                save(finished=False)
                raise KeyboardInterrupt
            if time.monotonic() - last_saved > SECONDS_PER_CHECKPOINT:
                save(finished=False)
                last_saved = time.monotonic()
        save(finished=True)
        if interrupt.requested:
            raise KeyboardInterrupt
    return _result(best, progress)


def _result(params: dict, progress: _Progress) -> StageResult:
    return StageResult(params, progress.best_score, progress.best_epoch, progress.seconds, checkpoints.content_hash(params))


def _validate(params: dict, model: ModelConfig, queries: Queries) -> float:
    return ndcg(ranks(params, model, queries.history, queries.truth[:, None])[:, 0], 10)


def _subset(queries: Queries, size: int) -> Queries:
    picks = np.sort(np.random.default_rng(0).permutation(len(queries.users))[:size])
    return Queries(*(array[picks] for array in queries))
