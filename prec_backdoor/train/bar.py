"""The progress bar of a stage."""

import contextlib
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from prec_backdoor.train.model_state import ModelState
from prec_backdoor.train.progress import Progress
from prec_backdoor.train.stage import StageRun

_COMPILING = "{desc}: compiling ({elapsed})"
_TRAINING = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class TrainingBar:
    """Says "compiling" until the first call of the devices is ready, then positions, loss and the best score so far."""

    def __init__(self, run: StageRun, bar: tqdm):
        self._positions, self._bar = int((run.data.rows.label > 0).sum()), bar

    def compiled(self, progress: Progress) -> None:
        """Starts the clock: no remaining time is shown that counts compiling."""
        self._bar.bar_format = _TRAINING
        self._bar.initial = progress.epoch * self._positions
        self._bar.unpause()
        self._bar.update(self._bar.initial)

    def update(self, models: Sequence[ModelState], positions: float, loss: float) -> None:
        """Adds the positions that each model has trained."""
        best = max(models, key=lambda model: model.progress.best_score).progress
        shown = f"loss={loss:.4f}" + (f", best={best.best_score:.4f} (epoch {best.best_epoch})" if best.best_epoch else "")
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update(int(positions))


@contextlib.contextmanager
def training_bar(run: StageRun) -> Iterator[TrainingBar]:
    """A bar on stderr, if that is a terminal, which vanishes at the end."""
    total = run.stage.config.epochs * int((run.data.rows.label > 0).sum())
    name = run.options.title or run.stage.name
    with tqdm(total=total, unit="pos", unit_scale=True, desc=name, leave=False, disable=None, bar_format=_COMPILING) as bar:
        bar.refresh()
        yield TrainingBar(run, bar)
