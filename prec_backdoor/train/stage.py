"""A stage as data: what learns, from which loss, on which poison, for how long, and one run of it on one share of the data."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from prec_backdoor.attacks import AttackSpec, Penalty, Poison, clean
from prec_backdoor.attacks.base import Mix
from prec_backdoor.data.batches import Users
from prec_backdoor.data.packing import Rows
from prec_backdoor.data.splits import Queries
from prec_backdoor.data.vocabulary import Vocabulary
from prec_backdoor.models import ModelConfig
from prec_backdoor.parallel.item_table import TABLES
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loader import Schedule, schedule
from prec_backdoor.train.trace import StepTrace

SECONDS_PER_CHECKPOINT = 20.0
WITHOUT_PROMPT = (*TABLES, "encoder")  # parameter groups, of which a model need not have all


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage does.

    Attributes:
      trainable: the parameter groups that learn.
      keep_last: run all epochs and return the last epoch's parameters, whatever their validation score.
      penalty: added to the loss.
      mix: makes the prompts of a row's users from those of the generators in `AttackSpec.prompts`; they take the place of the
        model's own.
      change: parameters -> parameters, takes the place of training.
    """

    name: str
    config: TrainConfig
    poison: Poison = clean
    trainable: tuple[str, ...] = WITHOUT_PROMPT
    keep_last: bool = False
    penalty: Penalty | None = None
    mix: Mix | None = None
    change: Callable[[dict], dict] | None = None


class StageData(NamedTuple):
    """Training rows, facts about their users, and the validation queries that early stopping goes by.

    Attributes:
      room: number of rows that the devices' buffers have room for, at least (see `TrainLoader`).
    """

    rows: Rows
    users: Users
    validation: Queries
    room: int = 0


class RunOptions(NamedTuple):
    """How a stage is run; no result depends on these.

    Attributes:
      folder: checkpoints go to folder/checkpoints; None keeps nothing.
      log: called with each record of metrics.jsonl.
      watch: parameters -> more entries of an epoch's record.
      checkpoint_seconds: time between two checkpoints of an unfinished stage.
      shard_items: split the item table over the devices.
      title: what the progress bar calls the stage; its name by default.
      trace: traces a few steps for the profiler.
    """

    folder: str | Path | None = None
    log: Callable[[dict], None] = lambda record: None
    watch: Callable[[dict], dict] | None = None
    checkpoint_seconds: float = SECONDS_PER_CHECKPOINT
    shard_items: bool = False
    title: str = ""
    trace: StepTrace | None = None

    def subfolder(self, name: str) -> Path | None:
        """Returns folder/`name`, or None without a folder."""
        return None if self.folder is None else Path(self.folder) / name


class StageRun(NamedTuple):
    """One run of a stage; `run_stage` executes it.

    Attributes:
      params: starting point, numpy or jax, unreplicated.
      key: all randomness comes from it, the epoch and the step.
      metadata: added to the checkpoint's: dataset, config, parent.
      vocabulary: written with each checkpoint.
    """

    stage: Stage
    model: ModelConfig
    params: dict
    data: StageData
    spec: AttackSpec
    key: jax.Array
    metadata: dict = {}  # noqa: RUF012 (never changed)
    options: RunOptions = RunOptions()
    vocabulary: Vocabulary | None = None

    @property
    def schedule(self) -> Schedule:
        """How an epoch is cut into chunks and steps."""
        return schedule(len(self.data.rows.history), self.stage.config.batch_size)


class StageResult(NamedTuple):
    """The best parameters by validation NDCG@10 (numpy, unreplicated), their score, epoch and hash; seconds by activity."""

    params: dict
    score: float
    epoch: int
    seconds: dict[str, float]
    hash: str
