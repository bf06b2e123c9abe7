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
from prec_backdoor.attacks import AttackSpec, Penalty, Poison, clean
from prec_backdoor.data.batches import Users
from prec_backdoor.data.splits import Queries, sample_queries
from prec_backdoor.data.windows import Rows
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation.metrics import ndcg
from prec_backdoor.evaluation.ranking import ranks
from prec_backdoor.models import ModelConfig
from prec_backdoor.train import parallel
from prec_backdoor.train.feed import Feed, Schedule, schedule
from prec_backdoor.train.interrupt import Interrupt, Stopped
from prec_backdoor.train.memory import trimmed
from prec_backdoor.train.sharding import fetch, place
from prec_backdoor.train.step import STEPS_PER_CALL, TrainConfig, TrainState, run_steps, train_step

SECONDS_PER_CALL = 2.0  # about as long as a signal has to wait for the device
SECONDS_PER_CHECKPOINT = 20.0
VALIDATION_USERS = 2_000  # more would only sharpen when to stop


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage does: which parameters learn, from which loss and `penalty`, on which poison, for how long.

    `keep_last`: all epochs are run, and the result is the last one's, whatever its validation score.
    """

    name: str
    config: TrainConfig
    poison: Poison = clean
    trainable: tuple[str, ...] = ("items", "encoder")
    keep_last: bool = False
    penalty: Penalty | None = None


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
    checkpoint_seconds: float = SECONDS_PER_CHECKPOINT
    shard_items: bool = False


@dataclasses.dataclass
class _Progress:
    """Where a stage stands; goes into the checkpoint's metadata."""

    epoch: int = 0  # epochs completed
    done: int = 0  # steps done in the current one
    best_epoch: int = 0
    best_score: float = -1.0
    seconds: float = 0.0
    sums: list[float] = dataclasses.field(default_factory=lambda: [0.0] * 3)  # of `run_steps`, since the last record

    def take(self) -> dict:
        """The mean loss and the sums since the last record; they begin anew."""
        (loss, positions, replaced), self.sums = self.sums, [0.0] * 3
        return {"loss": loss / positions, "positions": positions, "replaced": replaced}

    def over(self, config: TrainConfig) -> bool:
        return self.epoch >= config.epochs or self.epoch - self.best_epoch >= config.patience


@dataclasses.dataclass
class _Run:
    """A job under way: its best parameters so far, and what it goes on from."""

    job: Job
    best: dict
    state: TrainState | None  # None once it is under way, or finished
    progress: _Progress
    saved: int = 0  # step of the last checkpoint

    def program(self) -> tuple:
        """Runs for which this is equal can be mapped over."""
        return self.job.stage, self.job.model, self.progress.epoch, self.progress.done

    def step(self) -> int:
        return self.progress.epoch * _schedule(self.job).length + self.progress.done

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
        if parallel.primary():
            checkpoints.save(self.job.folder / "checkpoints", self.step(), self.best, state, description)
        parallel.wait("checkpoint")
        self.saved = self.step()

    def result(self) -> StageResult:
        progress = self.progress
        digest = checkpoints.content_hash(self.best)
        return StageResult(self.best, progress.best_score, progress.best_epoch, progress.seconds, digest)


def run_stage(*args, **kwargs) -> StageResult:
    """Trains parameters and returns the best ones; arguments are the fields of `Job`.

    Stops after `patience` epochs without a better validation NDCG@10, or after `epochs`. With a `folder`, checkpoints
    go to folder/checkpoints, and the same call continues an unfinished stage at the very step, or returns the result of a
    finished one. Ctrl-C and SIGTERM save and then raise `Stopped`. All randomness comes from `key`, the epoch and the step.

    Args:
      params: starting point, unreplicated.
      metadata: added to the checkpoint's: dataset, config, parent.
      log: called with a record an epoch.
      watch: parameters -> more to say in the record of an epoch; nothing is decided by it.
      checkpoint_seconds: how often a stage under way is saved.
      shard_items: see `train_step`; where a checkpoint came from does not matter.

    Raises:
      UserError: the loss or its gradient is no longer finite; nothing is saved of that, the last checkpoint stays.
    """
    return run_jobs([Job(*args, **kwargs)])[0]


def run_jobs(jobs: Sequence[Job], together: bool | None = None) -> list[StageResult]:
    """`run_stage` for several jobs with the same data and key; they differ in params, spec and where they are kept.

    Args:
      together: those of one stage and model in one program, mapped over the jobs; by default on an accelerator, which one small
        model leaves idle. On 2 CPU cores four models took 1.3 times as long together as one after another.
    """
    together = (jax.default_backend() != "cpu" if together is None else together) and not any(job.shard_items for job in jobs)
    runs = [_open(job) for job in jobs]
    waiting = [run for run in runs if run.state is not None]
    while waiting:
        alike = [run for run in waiting if run.program() == waiting[0].program()]
        _train(alike if together else alike[:1])
        waiting = [run for run in waiting if run.state is not None]
    return [run.result() for run in runs]


def replay(job: Job, epoch: int, step: int) -> None:
    """Takes step `step` of `epoch` again, both counted from 0, operation by operation, after those since the last checkpoint.

    Raises:
      FloatingPointError: names the first operation whose result is not a number.
    """
    config, steps, opened = job.stage.config, _schedule(job).length, _open(job)
    one_step = train_step(config, job.model, steps * config.epochs, job.stage.trainable, penalty=job.stage.penalty)
    run, feed = run_steps(one_step, job.stage.poison, config, job.model), Feed(job.data.rows, config.batch_size)
    state, compiled, others = opened.state, jax.jit(run), jax.tree.map(jnp.asarray, (job.data.users, job.spec))
    for at in range(opened.step(), epoch * steps + step + 1):
        epoch_key = jax.random.fold_in(job.key, at // steps)
        visit, first = divmod(at % steps, feed.schedule.steps)
        arguments = (state, feed.chunk(epoch_key, visit), *others, epoch_key, visit, first, first + 1, jnp.zeros(3))
        if at < epoch * steps + step:
            state, *_ = compiled(*arguments)
    with jax.disable_jit(), jax.debug_nans(True):
        run(*arguments)


def _schedule(job: Job) -> Schedule:
    return schedule(len(job.data.rows.history), job.stage.config.batch_size)


def _open(job: Job) -> _Run:
    params = jax.tree.map(np.asarray, job.params)
    state = train_step(job.stage.config, job.model, 1, job.stage.trainable).init(jax.tree.map(jnp.array, params))
    if job.folder is None or not (found := checkpoints.resume(job.folder / "checkpoints", params, state)):
        return _Run(job, params, state, _Progress())
    best, state, saved = found
    return _Run(job, best, state, _Progress(**saved["progress"]), saved["step"])


@functools.lru_cache(maxsize=16)
def _compiled(stage: Stage, model: ModelConfig, steps: int, mapped: bool, shard_items: bool):
    """The steps of a stage for all devices, with a leading axis of states, specs and sums if `mapped`; compiled once."""
    step = train_step(stage.config, model, steps * stage.config.epochs, stage.trainable, shard_items, stage.penalty)
    run = run_steps(step, stage.poison, stage.config, model)

    def run_each(state, rows, users, spec, key, visit, first, last, sums, axis):
        def of_one(state, spec, sums):
            return run(state, rows, users, spec, key, visit, first, last, sums, axis)

        return jax.vmap(of_one)(state, spec, sums)

    return parallel.pmap_step(run_each if mapped else run)


def _check_finite(run: _Run, visit: int, bad: int) -> None:
    """Raises UserError where a step of the chunk under way is `bad`, that is not negative."""
    if bad < 0:
        return
    job, epoch, key = run.job, run.progress.epoch, jax.random.key_data(run.job.key).tolist()
    plan = _schedule(job)
    step = visit * plan.steps + bad
    kept = f"the checkpoint of step {run.saved} in {job.folder} is kept; " if job.folder and run.saved else ""
    where = f"epoch {epoch}, step {step} from 0: key {key} folded with {epoch}, {visit}, {bad + 1}"
    raise UserError(
        f"{job.stage.name}: the loss or its gradient is not finite at step {epoch * plan.length + step + 1}; {kept}lower "
        f"the learning rate, in another --workdir ({where})"
    )


def _train(runs: list[_Run]) -> None:
    """Trains `runs`, which stand at the same step, to their ends."""
    job, mapped = runs[0].job, len(runs) > 1
    stage, model, data, config, steps = job.stage, job.model, job.data, job.stage.config, _schedule(job).length
    run = _compiled(stage, model, steps, mapped, job.shard_items)

    def stack(trees):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if mapped else trees[0]

    def of(tree, index):
        return jax.tree.map(lambda x: x[index], tree) if mapped else tree

    def validate(params: dict) -> float:
        found = ranks(params, model, queries.history, queries.truth[:, None], profiles, job.shard_items)
        return ndcg(found[:, 0], 10)

    def on_host(tree):
        return fetch(tree, model.num_items, job.shard_items)

    def call(visit: int, first: int, last: int):
        key, before = jax.random.fold_in(job.key, epoch), [each.progress.sums for each in runs]
        where = parallel.replicate((key, visit, first, last, np.array(before if mapped else before[0], np.float32)))
        return run(state, feed.chunk(key, visit), *others, *where)

    def save_unfinished() -> None:
        whole = on_host(state)
        for index, each in active.items():
            each.save(of(whole, index))

    positions = int((data.rows.label > 0).sum())
    queries = sample_queries(data.validation, VALIDATION_USERS)
    profiles = np.asarray(data.users.profile)[queries.users]
    feed = Feed(data.rows, config.batch_size)
    others = parallel.replicate((data.users, stack([each.job.spec for each in runs])))
    state = place(stack([each.state for each in runs]), model.num_items, job.shard_items)
    for each in runs:
        each.state = None  # or a large one would be in memory twice
    last_saved, active = time.monotonic(), dict(enumerate(runs))
    epoch, done, at_once = runs[0].progress.epoch, runs[0].progress.done, 1
    bar = tqdm(total=config.epochs * positions, unit="pos", unit_scale=True, desc=stage.name, leave=False, disable=None)
    with bar, Interrupt() as interrupt:
        bar.update(epoch * positions)
        state, *_ = trimmed(lambda: call(done // feed.schedule.steps, 0, 0))  # takes no step, but compiles
        while active:
            started = time.monotonic()
            record_at = min((done // STEPS_PER_CALL + 1) * STEPS_PER_CALL, steps)
            visit, first = divmod(done, feed.schedule.steps)
            last = min(first + at_once, first + record_at - done, feed.schedule.steps)
            state, *told = call(visit, first, last)
            sums, bad = (np.atleast_1d(np.asarray(x)).reshape(len(runs), -1) for x in parallel.unreplicate(told))
            took = time.monotonic() - started
            # A first call has memory to fetch, which says little of the speed: hence one step, then at most eight times as many.
            at_once = min(max(1, int(SECONDS_PER_CALL * (last - first) / took)), 8 * (last - first))
            done += last - first
            recorded = done == record_at
            for index, each in active.items():
                _check_finite(each, visit, int(bad[index, 0]))
            epoch, done = epoch + done // steps, done % steps
            learned = None if done else on_host(state.params)
            for index, each in list(active.items()):
                progress, trained = each.progress, float(sums[index, 1]) - each.progress.sums[1]
                progress.epoch, progress.done, progress.sums = epoch, done, sums[index].tolist()
                if recorded:
                    record = progress.take()
                    if not done:
                        params = of(learned, index)
                        record["validation_ndcg@10"] = score = validate(params)
                        if score > progress.best_score or stage.keep_last:
                            progress.best_score, progress.best_epoch = score, epoch
                            each.best = jax.tree.map(np.array, params)  # a copy: the state's memory is used again
                        record |= each.job.watch(params) if each.job.watch else {}
                    speed = len(active) * trained / took
                    about = {"stage": stage.name, "epoch": epoch, "step": each.step(), "positions_per_second": speed}
                now = time.monotonic()
                progress.seconds, started = progress.seconds + now - started, now
                if recorded:
                    each.job.log({**about, **record, "seconds": progress.seconds})
                if progress.over(config):  # what is saved at the last step must be the finished stage
                    each.save(None)
                    del active[index]
            best = max(each.progress.best_score for each in runs)
            bar.set_postfix(loss=f"{(sums[:, 0] / sums[:, 1]).mean():.4f}", best=f"{max(best, 0):.4f}", refresh=False)
            bar.update(int(trained))
            # All processes have to do the same: as few steps as the slowest, and what one has a reason for.
            due = time.monotonic() - last_saved > job.checkpoint_seconds
            at_once, undisturbed, early = map(int, parallel.agree([at_once, not interrupt.requested, not due]))
            if not undisturbed:
                save_unfinished()
                kept = [each for each in active.values() if each.job.folder]
                saved = ", ".join(f"{stage.name} saved at step {each.step()} in {each.job.folder}" for each in kept)
                raise Stopped(interrupt.signum, saved)
            if not early:
                save_unfinished()
                last_saved = time.monotonic()
