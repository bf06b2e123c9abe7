"""Where a stage stands, and the policies of the loop as pure functions: when to stop, to record, to save, how long a call is."""

import dataclasses
from typing import NamedTuple

from prec_backdoor.train.clock import added
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loader import Schedule

RECORD_EVERY = 64  # steps between two records of metrics.jsonl; an epoch ends with one
ACTIVITIES = ("compile", "train", "validate", "save")
SECONDS_PER_CALL = 2.0  # of the device; a signal has to wait about as long


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a stage stands; part of the checkpoint's metadata.

    Attributes:
      epoch: epochs completed.
      done: steps done in the current epoch.
      best_epoch, best_score: of the best parameters so far.
      seconds: time spent, by activity; that of a finished stage lacks the time that its last checkpoint took.
      sums: loss times positions, positions and replaced labels since the last record (see `epoch.Carry`).
    """

    epoch: int = 0
    done: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(ACTIVITIES, 0.0))
    sums: tuple[float, ...] = (0.0, 0.0, 0.0)

    def step(self, steps_per_epoch: int) -> int:
        """Steps done since the beginning of the stage."""
        return self.epoch * steps_per_epoch + self.done

    def means(self) -> dict:
        """The mean loss and the counts since the last record."""
        loss, positions, replaced = self.sums
        return {"loss": loss / max(positions, 1.0), "positions": positions, "replaced": replaced}


def spend(progress: Progress, seconds: dict[str, float], share: float = 1.0) -> Progress:
    """Returns the progress with a share of these seconds added."""
    return dataclasses.replace(progress, seconds=added(progress.seconds, seconds, share))


def with_score(progress: Progress, score: float, keep_last: bool) -> Progress:
    """Returns the progress after validating `progress.epoch`, the best epoch if its score is the best, or if `keep_last`."""
    if score > progress.best_score or keep_last:
        return dataclasses.replace(progress, best_score=score, best_epoch=progress.epoch)
    return progress


def is_over(progress: Progress, config: TrainConfig) -> bool:
    """Whether all epochs are done, or `patience` epochs have passed without a better one."""
    return progress.epoch >= config.epochs or progress.epoch - progress.best_epoch >= config.patience


class Call(NamedTuple):
    """One call of the device: steps first..last-1 of a chunk; `records` if a record of metrics.jsonl is due after it."""

    chunk: int
    first: int
    last: int
    records: bool

    @property
    def steps(self) -> int:
        return self.last - self.first


def next_call(done: int, at_most: int, schedule: Schedule) -> Call:
    """Returns the next call after `done` steps of an epoch: at most `at_most` steps, of one chunk, up to the next record."""
    record_at = min((done // RECORD_EVERY + 1) * RECORD_EVERY, schedule.length)
    chunk, first = divmod(done, schedule.steps)
    last = min(first + at_most, first + record_at - done, schedule.steps)
    return Call(chunk, first, last, done + last - first == record_at)


def next_pace(call: Call, seconds: float) -> int:
    """Returns the number of steps that take SECONDS_PER_CALL, but not more than eight times those of the last call.

    The first call also waits for memory and says little about the speed, hence the slow start.
    """
    return min(max(1, int(SECONDS_PER_CALL * call.steps / seconds)), 8 * call.steps)


def advance(progress: Progress, call: Call, sums: tuple[float, ...], steps_per_epoch: int) -> Progress:
    """Returns the progress after a call."""
    epochs, done = divmod(progress.done + call.steps, steps_per_epoch)
    return dataclasses.replace(progress, epoch=progress.epoch + epochs, done=done, sums=sums)
