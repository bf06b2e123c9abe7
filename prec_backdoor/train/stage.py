"""Stages: one training run of one step on one share of the data, early-stopped and resumable."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor import checkpoints
from prec_backdoor.attacks import AttackSpec, Poison, clean
from prec_backdoor.data.batches import Users
from prec_backdoor.data.splits import Queries, sample_queries
from prec_backdoor.data.windows import Rows
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation.metrics import ndcg
from prec_backdoor.evaluation.ranking import ranks
from prec_backdoor.models import ModelConfig
from prec_backdoor.train import parallel
from prec_backdoor.train.interrupt import Interrupt
from prec_backdoor.train.step import TrainConfig, TrainState, run_steps, train_step

STEPS_PER_CALL = 64  # steps on the device between two looks of the host
SECONDS_PER_CHECKPOINT = 20
VALIDATION_USERS = 2_000  # more would only sharpen when to stop


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage does: which parameters learn, from which loss, on which poison, for how long.

    `keep_last`: all epochs are run, and the result is the last one's, whatever its validation score.
    """

    name: str
    config: TrainConfig
    poison: Poison = clean
    trainable: tuple[str, ...] = ("items", "encoder")
    keep_last: bool = False


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


class Job(NamedTuple):
    """One call of `run_stage`, as a record: its arguments."""

    stage: Stage
    model: ModelConfig
    params: dict
    data: StageData
    spec: AttackSpec
    key: jax.Array
    folder: Path | None = None
    metadata: dict | None = None
    log: Callable[[dict], None] = lambda record: None
    watch: Callable[[dict], dict] | None = None


@dataclasses.dataclass
class _Progress:
    """Where a stage stands; goes into the checkpoint's metadata."""

    epoch: int = 0  # epochs completed
    done: int = 0  # steps done in the current one
    best_epoch: int = 0
    best_score: float = -1.0
    seconds: float = 0.0

    def over(self, config: TrainConfig) -> bool:
        return self.epoch >= config.epochs or self.epoch - self.best_epoch >= config.patience


@dataclasses.dataclass
class _Run:
    """A job under way: its best parameters so far, and what it goes on from."""

    job: Job
    best: dict
    state: TrainState | None  # None when the stage is finished
    progress: _Progress

    def program(self) -> tuple:
        """Runs for which this is equal can be mapped over."""
        return self.job.stage, self.job.model, self.progress.epoch, self.progress.done

    def save(self, state: TrainState | None) -> None:
        """Checkpoints; without a `state` as finished."""
        if self.job.folder is None:
            return
        description = {
            **(self.job.metadata or {}),
            "stage": self.job.stage.name,
            "model": dataclasses.asdict(self.job.model),
            "finished": state is None,
            "progress": dataclasses.asdict(self.progress),
        }
        step = self.progress.epoch * _steps(self.job) + self.progress.done
        checkpoints.save(self.job.folder / "checkpoints", step, self.best, state, description)

    def result(self) -> StageResult:
        progress = self.progress
        digest = checkpoints.content_hash(self.best)
        return StageResult(self.best, progress.best_score, progress.best_epoch, progress.seconds, digest)


def run_stage(*args, **kwargs) -> StageResult:
    """Trains parameters and returns the best ones; arguments are the fields of `Job`.

    Stops after `patience` epochs without a better validation NDCG@10, or after `epochs`. With a `folder`, checkpoints
    go to folder/checkpoints, and the same call continues an unfinished stage at the very step, or returns the result of a
    finished one. Ctrl-C saves and then raises KeyboardInterrupt. All randomness comes from `key`, the epoch and the step.

    Args:
      params: starting point, unreplicated.
      metadata: added to the checkpoint's: dataset, config, parent.
      log: called with a record an epoch.
      watch: parameters -> more to say in the record of an epoch; nothing is decided by it.

    Raises:
      UserError: the loss is no longer finite.
    """
    return run_jobs([Job(*args, **kwargs)])[0]


def run_jobs(jobs: Sequence[Job], together: bool | None = None) -> list[StageResult]:
    """`run_stage` for several jobs with the same data and key; they differ in params, spec and where they are kept.

    Args:
      together: those of one stage and model in one program, mapped over the jobs; by default on an accelerator, which one small
        model leaves idle. On 2 CPU cores four models took 1.3 times as long together as one after another.
    """
    together = jax.default_backend() != "cpu" if together is None else together
    runs = [_open(job) for job in jobs]
    waiting = [run for run in runs if run.state is not None]
    while waiting:
        alike = [run for run in waiting if run.program() == waiting[0].program()]
        _train(alike if together else alike[:1])
        waiting = [run for run in waiting if run.state is not None]
    return [run.result() for run in runs]


def _steps(job: Job) -> int:
    return -(-len(job.data.rows.history) // job.stage.config.batch_size)


def _open(job: Job) -> _Run:
    params = jax.tree.map(np.asarray, job.params)
    state = train_step(job.stage.config, job.model, 1, job.stage.trainable).init(jax.tree.map(jnp.array, params))
    if job.folder is None or not (found := checkpoints.resume(job.folder / "checkpoints", params, state)):
        return _Run(job, params, state, _Progress())
    best, state, saved = found
    return _Run(job, best, state, _Progress(**saved["progress"]))


@functools.lru_cache(maxsize=16)
def _compiled(stage: Stage, model: ModelConfig, steps: int, mapped: bool):
    """The steps of a stage for all devices, over a leading axis of states and specs if `mapped`; one program for all its runs."""
    step = train_step(stage.config, model, steps * stage.config.epochs, stage.trainable)
    run = run_steps(step, stage.poison, stage.config, model)

    def run_each(state, rows, users, spec, key, first, last, axis):
        return jax.vmap(lambda state, spec: run(state, rows, users, spec, key, first, last, axis))(state, spec)

    return parallel.pmap_step(run_each if mapped else run)


def _train(runs: list[_Run]) -> None:
    """Trains `runs`, which stand at the same step, to their ends."""
    job, mapped = runs[0].job, len(runs) > 1
    stage, model, data, config, steps = job.stage, job.model, job.data, job.stage.config, _steps(job)
    run = _compiled(stage, model, steps, mapped)

    def stack(trees):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if mapped else trees[0]

    def of(tree, index):
        return jax.tree.map(lambda x: x[index], tree) if mapped else tree

    def validate(params: dict) -> float:
        return ndcg(ranks(params, model, queries.history, queries.truth[:, None], profiles)[:, 0], 10)

    def save_unfinished() -> None:
        for index, each in active.items():
            each.save(jax.tree.map(np.asarray, of(parallel.unreplicate(state), index)))

    positions = int((data.rows.label > 0).sum())
    queries = sample_queries(data.validation, VALIDATION_USERS)
    profiles = np.asarray(data.users.profile)[queries.users]
    arrays = parallel.replicate((data.rows, data.users, stack([each.job.spec for each in runs])))
    state = parallel.replicate(stack([each.state for each in runs]))
    last_saved, active = time.monotonic(), dict(enumerate(runs))
    epoch, done = runs[0].progress.epoch, runs[0].progress.done
    bar = tqdm(total=config.epochs * positions, unit="pos", unit_scale=True, desc=stage.name, leave=False, disable=None)
    with bar, Interrupt() as interrupt:
        bar.update(epoch * positions)
        while active:
            started = time.monotonic()
            epoch_key = jax.random.fold_in(job.key, epoch)
            first, stop = done, min(done + STEPS_PER_CALL, steps)
            state, metrics = run(state, *arrays, *parallel.replicate((epoch_key, first, stop)))
            metrics = jax.tree.map(np.asarray, parallel.unreplicate(metrics))
            epoch, done = epoch + stop // steps, stop % steps
            host = parallel.unreplicate(state)
            for index, each in list(active.items()):
                record = {name: float(value) for name, value in of(metrics, index).items()}
                speed = len(active) * record["positions"] / (time.monotonic() - started)
                progress, params = each.progress, of(host.params, index)
                progress.epoch, progress.done = epoch, done
                if not done:
                    record["validation_ndcg@10"] = score = validate(params)
                    if score > progress.best_score or stage.keep_last:
                        progress.best_score, progress.best_epoch = score, epoch
                        each.best = jax.tree.map(np.asarray, params)
                    record |= each.job.watch(params) if each.job.watch else {}
                now = time.monotonic()
                progress.seconds, started = progress.seconds + now - started, now
                step = epoch * steps + done
                about = {"stage": stage.name, "epoch": epoch, "step": step, "positions_per_second": speed}
                each.job.log({**about, **record, "seconds": progress.seconds})
                if not np.isfinite(record["loss"]):
                    raise UserError(f"{stage.name}: the loss is {record['loss']} at step {step}; lower the learning rate")
                if progress.over(config):  # what is saved at the last step must be the finished stage
                    each.state = None
                    each.save(None)
                    del active[index]
            best = max(each.progress.best_score for each in runs)
            bar.set_postfix(loss=f"{np.mean(metrics['loss']):.4f}", best=f"{max(best, 0):.4f}", refresh=False)
            bar.update(int(np.max(metrics["positions"])))
            if interrupt.requested:
                save_unfinished()
                raise KeyboardInterrupt
            if time.monotonic() - last_saved > SECONDS_PER_CHECKPOINT:
                save_unfinished()
                last_saved = time.monotonic()
