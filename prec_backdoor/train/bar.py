"""The progress bar of a stage."""

import contextlib
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from prec_backdoor.train.model_state import ModelState
from prec_backdoor.train.progress import Progress
from prec_backdoor.train.stage import StageRun

STEADY_SECONDS = 4.0  # of training, before which the speed says little about the time that remains
_COMPILING = "{desc}: compiling"
_STARTING = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}{postfix}]"
_TRAINING = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}, at most {remaining} left, {rate_fmt}{postfix}]"


class TrainingBar:
    """Says "compiling" until the devices are ready, then shows the share of positions trained, the loss and the best score."""

    def __init__(self, run: StageRun, bar: tqdm):
        self._run, self._positions, self._bar = run, int((run.data.rows.label > 0).sum()), bar

    def compiled(self, progress: Progress) -> None:
        """Starts the clock at what is trained already, so that neither compiling nor earlier work counts towards the speed."""
        epochs = progress.epoch + progress.done / self._run.schedule.length
        self._bar.bar_format = _STARTING
        self._bar.unpause()
        self._bar.n = self._bar.initial = self._bar.last_print_n = int(epochs * self._positions)
        self._bar.refresh()

    def update(self, models: Sequence[ModelState], positions: float, loss: float) -> None:
        """Adds the positions that a model has trained in the last call."""
        best = max(models, key=lambda model: model.progress.best_score).progress
        shown = f"loss {loss:.4f}" + (f", best {best.best_score:.4f} in epoch {best.best_epoch}" if best.best_epoch else "")
        if self._bar.format_dict["elapsed"] >= STEADY_SECONDS:
            self._bar.bar_format = _TRAINING
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update(int(positions))


@contextlib.contextmanager
def training_bar(run: StageRun, models: int = 1) -> Iterator[TrainingBar]:
    """Yields a bar on stderr, if that is a terminal, which vanishes at the end; `models` train together, `run` is the first's."""
    how = {"unit": " positions", "unit_scale": True, "leave": False, "disable": None, "bar_format": _COMPILING}
    how["total"] = run.stage.config.epochs * int((run.data.rows.label > 0).sum())
    how["desc"] = (run.options.title or run.stage.name) + (f" and {models - 1} more" if models > 1 else "")
    with tqdm(**how) as bar:
        bar.refresh()
        yield TrainingBar(run, bar)
