"""One model under way: opened from its checkpoint or its start, saved, and turned into a result."""

import dataclasses
import time
from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor import parallel
from prec_backdoor.errors import UserError
from prec_backdoor.storage import checkpoints
from prec_backdoor.train.progress import Progress, is_over, spend
from prec_backdoor.train.stage import StageResult, StageRun
from prec_backdoor.train.step import TrainState, train_step


class ModelState(NamedTuple):
    """A run, where it stands, its best parameters so far (numpy, unreplicated), and the step of its last checkpoint."""

    run: StageRun
    progress: Progress
    best: dict
    saved: int = 0

    @property
    def over(self) -> bool:
        """Whether training ends here."""
        return is_over(self.progress, self.run.stage.config)

    @property
    def step(self) -> int:
        """Steps done since the beginning of the stage."""
        return self.progress.step(self.run.schedule.length)


def open_model(run: StageRun) -> tuple[ModelState, TrainState | None]:
    """Returns the model and its training state, from its last checkpoint or from the start; the state of a finished one is None.

    Raises:
      UserError: there is nothing to train on; there are checkpoints, and none is sound.
    """
    if not len(run.data.rows.history):
        raise UserError(
            f"{run.stage.name}: nothing to train on: no user has two items beside those that are held out for validation and "
            "test; give data with longer histories"
        )
    params = jax.tree.map(np.asarray, run.params)
    step = train_step(run.stage.config, run.model, trainable=run.stage.trainable)
    state = step.init(parallel.on_device(params), run.schedule.length * run.stage.config.epochs)
    folder = run.options.subfolder("checkpoints")
    if folder is None or not (found := checkpoints.resume(folder, params, state)):
        return ModelState(run, Progress(), params), state
    best, state, metadata = found
    saved = {name: tuple(value) if name == "sums" else value for name, value in metadata["progress"].items()}
    return ModelState(run, Progress(**saved), best, metadata["step"]), state


def save_model(model: ModelState, state: TrainState | None) -> ModelState:
    """Writes a checkpoint, if there is a folder for it; without a `state` it is that of a finished stage."""
    run = model.run
    if run.options.folder is None:
        return model
    metadata = {
        **run.metadata,
        "stage": run.stage.name,
        "model": dataclasses.asdict(run.model),
        "finished": state is None,
        "progress": dataclasses.asdict(model.progress),
    }
    started = time.monotonic()
    if parallel.primary():
        checkpoints.save(run.options.subfolder("checkpoints"), model.step, model.best, state, metadata, run.vocabulary)
    parallel.wait("checkpoint")
    spent = {"save": time.monotonic() - started}
    return model._replace(saved=model.step, progress=spend(model.progress, spent))


def result_of(model: ModelState) -> StageResult:
    """The result of a model whose training has ended."""
    progress = model.progress
    digest = checkpoints.content_hash(model.best)
    return StageResult(model.best, progress.best_score, progress.best_epoch, progress.seconds, digest)


def check_negatives(run: StageRun) -> None:
    """Raises a UserError if the loss needs negatives and every position's user has interacted with every item."""
    if not run.stage.config.sampled_negatives:
        return
    rows, count = run.data.rows, np.asarray(run.data.users.seen.count)
    owner = np.take_along_axis(np.asarray(rows.user), np.maximum(rows.segment - 1, 0), axis=1)
    if not ((np.asarray(rows.label) > 0) & (count[owner] < run.model.num_items)).any():
        raise UserError(
            f"{run.stage.name}: every user has interacted with all {run.model.num_items} items, which leaves no negative to "
            f"sample for --loss={run.stage.config.loss}; use --loss=ce"
        )


def check_params(model: ModelState, params: dict) -> None:
    """Raises a UserError if a parameter is not finite."""
    if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        return
    raise UserError(
        f"{model.run.stage.name}: the parameters are not finite after step {model.step}; {_kept(model)}"
        "lower the learning rate, in another --workdir"
    )


def check_finite(model: ModelState, chunk: int, bad: int) -> None:
    """Raises a UserError if step `bad` of the chunk was not finite; -1 stands for none."""
    if bad < 0:
        return
    run, epoch, schedule = model.run, model.progress.epoch, model.run.schedule
    key, step = jax.random.key_data(run.key).tolist(), chunk * schedule.steps + bad
    where = f"epoch {epoch}, step {step} from 0: key {key} folded with {epoch}, {chunk}, {bad + 1}"
    raise UserError(
        f"{run.stage.name}: the loss or its gradient is not finite at step {epoch * schedule.length + step + 1}; {_kept(model)}"
        f"lower the learning rate, in another --workdir ({where})"
    )


def _kept(model: ModelState) -> str:
    folder = model.run.options.folder
    return f"the checkpoint of step {model.saved} in {folder} is kept; " if folder and model.saved else ""
