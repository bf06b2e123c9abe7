"""The auditor's own clean models: what the audits say of a model that nobody attacked.

Trained on the auditor's users and seen through the same ones, they are no likeness of the provider's model, which knew
others and more of them. Held against scores that are robust z of each model by itself, they need not be: what they tell is
how heavy the tails of such scores are where nothing was planted. Trained on one half and seen through the other they had
tails heavier by half than clean models of a provider (docs/audit.md), for they know nothing of the items that only the
other half has.
"""

import dataclasses

import jax
import numpy as np

from prec_backdoor.attacks import make_spec
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.packing import pack
from prec_backdoor.data.splits import Queries, Sequences, sample_queries
from prec_backdoor.models import ModelConfig, init_params, init_prompt
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loader import schedule
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions, Stage, StageData, StageRun

STEPS = 1_000  # at most, of one clean model
PROMPT_STEPS = 200
VALIDATION_USERS = 256  # more would take longer than training, on a large catalogue
EPOCH = 30  # steps, at least: rows of few users are repeated, or validation would take most of the time


def clean_model(
    auditor_data: AuditorData, model: ModelConfig, train: TrainConfig, number: int, options: RunOptions = RunOptions()
) -> dict:
    """Parameters of the `number`-th clean model, trained from scratch; one for a model with prompts gets a tuned prompt too.

    Args:
      model, train: of the model that is audited.
      options: with a folder, the model is kept there; the same call continues or returns at once.
    """
    data, interactions = stage_data(auditor_data, model.max_length)
    times = -(-EPOCH * train.batch_size // len(data.rows.history))
    data = data._replace(rows=jax.tree.map(lambda array: np.tile(array, (times, 1)), data.rows))
    spec = make_spec(interactions, np.array([1]), rate=0.0)  # unused: nothing is poisoned
    key = jax.random.fold_in(jax.random.key(number), 1)
    plain = dataclasses.replace(model, prompt_length=0, profile_sizes=())
    metadata = {"dataset": interactions.summary(), "config": {}, "parent": None}

    def run(name: str, steps: int, params: dict, of: ModelConfig, trainable: tuple[str, ...]) -> dict:
        epochs = max(2, -(-steps // schedule(len(data.rows.history), train.batch_size).length))
        config = dataclasses.replace(train, epochs=epochs, patience=max(2, epochs // 4))
        own = options._replace(folder=options.subfolder(name), title=f"clean model {number} {name}")
        stage = Stage(name, config, trainable=trainable)
        return run_stage(StageRun(stage, of, params, data, spec, key, metadata, own)).params

    params = run("pretrain", STEPS, init_params(key, plain), plain, ("items", "encoder"))
    if model.prompt_length:
        params = params | {"prompt": init_prompt(jax.random.fold_in(key, 2), model)}
        params = run("prompt_tune", PROMPT_STEPS, params, model, ("prompt",))
    return params


def stage_data(auditor_data: AuditorData, max_length: int) -> tuple[StageData, Interactions]:
    """The users' histories to train on, as a dataset of its own; their last items are validation."""
    users = np.arange(len(auditor_data.history), dtype=np.int32)
    whole = [row[row > 0] for row in auditor_data.history]
    interactions = Interactions(
        name="own",
        items=np.concatenate(whole).astype(np.int32),
        offsets=np.cumsum([0, *map(len, whole)]),
        profile=auditor_data.profile,
        attributes=auditor_data.attributes,
        category=auditor_data.category,
        categories=tuple(map(str, range(int(auditor_data.category.max()) + 1))),
        user_ids=users.astype(str),
        item_ids=np.arange(len(auditor_data.category)).astype(str),
        titles=np.full(len(auditor_data.category), "", "U1"),
    )
    sequences = Sequences(users, [items[:-1] for items in whole])
    history = np.where(np.arange(auditor_data.history.shape[1]) > 0, np.roll(auditor_data.history, 1, axis=1), 0)
    some = np.array([len(items) > 1 for items in whole])
    queries = sample_queries(Queries(users[some], history[some], auditor_data.history[some, -1]), VALIDATION_USERS)
    return StageData(pack(sequences, max_length), user_tables(interactions, sequences), queries), interactions
