"""Calibration models: the auditor's own clean models, and the audits' scores of them.

They are trained on the auditor's users and observed through the same users. They need not resemble the provider's model, which
was trained on other and more users: an audit's scores are robust z values within one model, and calibration models show how heavy
the tails of such scores are without an attack. Training on one half of the users and observing through the other makes these
tails heavier by half than those of a provider's clean models (docs/audit.md), as items that occur in one half only are untrained.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor.attacks import make_spec
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.registry import run_audits
from prec_backdoor.audit.views import observe_views
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.packing import pack
from prec_backdoor.data.splits import Queries, Sequences, sample_queries
from prec_backdoor.models import ModelConfig, init_params, init_prompt
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loader import schedule
from prec_backdoor.train.loop import run_stages
from prec_backdoor.train.stage import WITHOUT_PROMPT, RunOptions, Stage, StageData, StageRun

STEPS = 1_000  # training steps of one model, rounded up to whole epochs
PROMPT_STEPS = 200
VALIDATION_USERS = 256  # with more, validation on a large catalogue takes longer than training
IN_MEMORY = RunOptions()  # nothing is kept
MIN_EPOCH = 30  # steps; rows of few users are repeated, otherwise validation takes most of the time


class CalibrationModel(NamedTuple):
    """A clean model of the auditor's: its parameters, and the audits' scores of it, audit -> [V]."""

    params: dict
    scores: dict[str, np.ndarray]


def calibration_models(
    auditor_data: AuditorData, model: ModelConfig, train: TrainConfig, config: AuditConfig, options: RunOptions = IN_MEMORY
) -> list[CalibrationModel]:
    """Trains the auditor's clean models and audits them.

    Args:
      model, train: of the audited model.
      options: with a folder, models are kept under clean-0, clean-1, .. there, and the same call loads them.
    """
    numbers = range(config.num_models(model.num_items))
    trained = train_clean_models(auditor_data, model, train, numbers, options)
    return [
        CalibrationModel(params, run_audits(observe_views(params, model, auditor_data, config.fresh_prompts)))
        for params in trained
    ]


def train_clean_models(
    auditor_data: AuditorData, model: ModelConfig, train: TrainConfig, numbers: Sequence[int], options: RunOptions = IN_MEMORY
) -> list[dict]:
    """Returns the parameters of clean models, trained from scratch; if `model` has prompts, prompts are tuned too.

    Args:
      model, train: of the audited model.
      numbers: a model's number decides its randomness, and names its folder.
      options: with a folder, models are kept under clean-0, clean-1, .. there, and the same call resumes or loads them.
    """
    data, interactions = stage_data(auditor_data, model.max_length)
    times = -(-MIN_EPOCH * train.batch_size // len(data.rows.history))
    data = data._replace(rows=jax.tree.map(lambda array: np.tile(array, (times, 1)), data.rows))
    spec = make_spec(interactions, np.array([1]), rate=0.0)  # unused: nothing is poisoned
    keys = [jax.random.fold_in(jax.random.key(number), 1) for number in numbers]
    plain = dataclasses.replace(model, prompt_length=0, profile_sizes=())
    metadata = {"dataset": interactions.summary(), "config": {}, "parent": None}

    def run(name: str, steps: int, starts: list[dict], stage_model: ModelConfig, trainable: tuple[str, ...]) -> list[dict]:
        epochs = max(2, -(-steps // schedule(len(data.rows.history), train.batch_size).length))
        config = dataclasses.replace(train, epochs=epochs, patience=max(2, epochs // 4))
        stage, runs = Stage(name, config, trainable=trainable), []
        for number, params, key in zip(numbers, starts, keys, strict=True):
            own = options._replace(folder=options.subfolder(f"clean-{number}/{name}"), title=f"clean model {number} {name}")
            runs.append(StageRun(stage, stage_model, params, data, spec, key, metadata, own))
        return [result.params for result in run_stages(runs)]

    trained = run("pretrain", STEPS, [init_params(key, plain) for key in keys], plain, WITHOUT_PROMPT)
    if model.prompt_length:
        prompts = [init_prompt(jax.random.fold_in(key, 2), model) for key in keys]
        trained = [params | {"prompt": prompt} for params, prompt in zip(trained, prompts, strict=True)]
        trained = run("prompt_tune", PROMPT_STEPS, trained, model, ("prompt",))
    return trained


def stage_data(auditor_data: AuditorData, max_length: int) -> tuple[StageData, Interactions]:
    """The auditor's histories as training data, and as a dataset; the last item of each history is for validation."""
    users = np.arange(len(auditor_data.history), dtype=np.int32)
    sequences = [row[row > 0] for row in auditor_data.history]
    interactions = Interactions(
        name="own",
        items=np.concatenate(sequences).astype(np.int32),
        offsets=np.cumsum([0, *map(len, sequences)]),
        profile=auditor_data.profile,
        attributes=auditor_data.attributes,
        category=auditor_data.category,
        categories=tuple(map(str, range(int(auditor_data.category.max()) + 1))),
        user_ids=users.astype(str),
        item_ids=np.arange(len(auditor_data.category)).astype(str),
        titles=np.full(len(auditor_data.category), "", "U1"),
    )
    training = Sequences(users, [items[:-1] for items in sequences])
    history = np.where(np.arange(auditor_data.history.shape[1]) > 0, np.roll(auditor_data.history, 1, axis=1), 0)
    long = np.array([len(items) > 1 for items in sequences])
    queries = sample_queries(Queries(users[long], history[long], auditor_data.history[long, -1]), VALIDATION_USERS)
    return StageData(pack(training, max_length), user_tables(interactions, training), queries), interactions
