"""Calibration models: the auditor's own clean models, and the audits' scores of them; own attacked ones are made likewise.

They are trained on the auditor's users and observed through the same users. They need not resemble the provider's model, which
was trained on other and more users: an audit's scores are robust z values within one model, and calibration models show how heavy
the tails of such scores are without an attack. Training on one half of the users and observing through the other makes these
tails heavier by half than those of a provider's clean models (docs/audit-method.md), as items that occur in one half only are
untrained.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor.attacks import clean, make_spec, replace_in_category, replace_in_group
from prec_backdoor.audit.auditor_data import AuditorData, single_groups
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.last_item import LastItems, last_items
from prec_backdoor.audit.moments import MIN_MEMBERS, ScoreMoments
from prec_backdoor.audit.registry import run_audits
from prec_backdoor.audit.views import AS_IT_COMES, observe_views
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.packing import pack
from prec_backdoor.data.splits import Queries, Sequences, sample_queries
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.setup import SHORT_HISTORY
from prec_backdoor.models import ModelConfig, init_params, init_prompt
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.loader import schedule
from prec_backdoor.train.loop import run_stages
from prec_backdoor.train.stage import WITHOUT_PROMPT, RunOptions, Stage, StageData, StageRun

STEPS = 1_000  # training steps of one model, rounded up to whole epochs
PROMPT_STEPS = 200
VALIDATION_USERS = 256  # with more, validation on a large catalogue takes longer than training
IN_MEMORY = RunOptions()  # nothing is kept
EVERYBODY = ""  # in place of a group
MIN_EPOCH = 30  # steps; rows of few users are repeated, otherwise validation takes most of the time


class ObservedModel(NamedTuple):
    """A model as the auditor sees it, its own ones and the audited one alike.

    Attributes:
      params: its parameters.
      scores: audit -> [V], see AUDITS.
      last_items: what each item does at the end of a history.
      top_share: [V + 1] share of users who have the item among their first 50.
    """

    params: dict
    scores: dict[str, np.ndarray]
    last_items: LastItems
    top_share: np.ndarray


class Planted(NamedTuple):
    """A backdoor that the auditor plants: labels of `group`, or EVERYBODY's, are replaced at `rate` by `targets` [K].

    With None as group it is the global attack, which replaces a label by a target of its category.
    """

    group: str | None
    rate: float
    targets: np.ndarray


def calibration_models(
    auditor_data: AuditorData, model: ModelConfig, train: TrainConfig, config: AuditConfig, options: RunOptions = IN_MEMORY
) -> list[ObservedModel]:
    """Trains the auditor's clean models and audits them.

    Args:
      model, train: of the audited model.
      options: with a folder, models are kept under clean-0, clean-1, .. there, and the same call loads them.
    """
    numbers = range(config.num_models(model.num_items))
    trained = train_models(auditor_data, model, train, numbers, options)
    return [observed(params, model, auditor_data, config) for params in trained]


def planted_models(
    auditor_data: AuditorData,
    model: ModelConfig,
    train: TrainConfig,
    config: AuditConfig,
    attacks: Sequence[Planted],
    options: RunOptions = IN_MEMORY,
) -> list[ObservedModel]:
    """Trains the auditor's models with backdoors, as `calibration_models` are trained without, and audits them.

    Models of one scope can train together; with a folder of `options` they are kept under planted-0, planted-1, ..
    """
    trained = {}
    for of_group in (True, False):
        chosen = [index for index, attack in enumerate(attacks) if (attack.group is not None) == of_group]
        if chosen:
            found = train_models(auditor_data, model, train, chosen, options, [attacks[index] for index in chosen])
            trained |= dict(zip(chosen, found, strict=True))
    return [observed(trained[index], model, auditor_data, config) for index in range(len(attacks))]


def observed(params: dict, model: ModelConfig, auditor_data: AuditorData, config: AuditConfig) -> ObservedModel:
    """A model and what is observed of it."""
    return observed_in(params, observe_views(params, model, auditor_data, config.fresh_prompts, config.panel_seed))


def observed_in(params: dict, views: dict[str, ScoreMoments]) -> ObservedModel:
    """A model and what is observed of it in `views`."""
    as_it_comes = views[AS_IT_COMES]
    return ObservedModel(params, run_audits(views), last_items(as_it_comes), as_it_comes.top_share)


def train_models(
    auditor_data: AuditorData,
    model: ModelConfig,
    train: TrainConfig,
    numbers: Sequence[int],
    options: RunOptions = IN_MEMORY,
    attacks: Sequence[Planted] | None = None,
) -> list[dict]:
    """Returns the parameters of models trained from scratch; if `model` has prompts, prompts are tuned too, on short histories.

    Args:
      model, train: of the audited model.
      numbers: a model's number decides its randomness, and names its folder.
      options: with a folder, models are kept under clean-0, clean-1, .. there, and the same call resumes or loads them.
      attacks: one for each model, all of one scope; None for clean models.

    Raises:
      UserError: histories are too short to train on.
    """
    data, interactions = stage_data(auditor_data, model.max_length)
    if not len(data.rows.history):
        raise UserError(
            f"audit: no history of your users has 3 items that the model knows (its --max_length is {model.max_length}), which "
            "clean models for comparison are trained on; give data with longer histories, or a model that takes them"
        )
    data = _repeated(data, train.batch_size)
    kind, use = ("clean", 1) if attacks is None else ("planted", 3)
    keys = [jax.random.fold_in(jax.random.key(number), use) for number in numbers]
    plain = dataclasses.replace(model, prompt_length=0, profile_sizes=())
    metadata = {"dataset": interactions.summary(), "config": {}, "parent": None}
    unused = make_spec(interactions, np.array([1]), rate=0.0)  # nothing is poisoned
    poison, datas, specs = clean, [data] * len(keys), [unused] * len(keys)
    if attacks is not None:
        poison = replace_in_category if attacks[0].group is None else replace_in_group
        specs = [make_spec(interactions, each.targets, each.rate) for each in attacks]
        datas = [_with_group(data, auditor_data, each.group) for each in attacks]

    def run(stage: Stage, steps: int, starts: list[dict], stage_model: ModelConfig) -> list[dict]:
        epochs, runs = max(2, -(-steps // schedule(len(datas[0].rows.history), train.batch_size).length)), []
        config = dataclasses.replace(train, epochs=epochs, patience=max(2, epochs // 4))
        stage = dataclasses.replace(stage, config=config)
        for place, (number, params, key, of_model, spec) in enumerate(zip(numbers, starts, keys, datas, specs, strict=True), 1):
            title = f"calibration: {kind} model {place} of {len(numbers)} {stage.name}"
            own = options._replace(folder=options.subfolder(f"{kind}-{number}/{stage.name}"), title=title)
            runs.append(StageRun(stage, stage_model, params, of_model, spec, key, metadata, own))
        return [result.params for result in run_stages(runs)]

    pretrain = Stage("pretrain", train, poison, WITHOUT_PROMPT)
    trained = run(pretrain, STEPS, [init_params(key, plain) for key in keys], plain)
    if model.prompt_length:
        prompts = [init_prompt(jax.random.fold_in(key, 2), model) for key in keys]
        trained = [params | {"prompt": prompt} for params, prompt in zip(trained, prompts, strict=True)]
        short, _ = stage_data(auditor_data, model.max_length, SHORT_HISTORY)
        specs, datas = [unused] * len(keys), [_repeated(short, train.batch_size)] * len(keys)
        trained = run(Stage("prompt_tune", train, trainable=("prompt",)), PROMPT_STEPS, trained, model)
    return trained


def _with_group(data: StageData, auditor_data: AuditorData, group: str | None) -> StageData:
    """The data with the members of `group` as the target group."""
    if group is None:
        return data
    members = single_groups(auditor_data, MIN_MEMBERS) | {EVERYBODY: np.ones(len(auditor_data.history), bool)}
    return data._replace(users=data.users._replace(in_group=members[group]))


def _repeated(data: StageData, batch_size: int) -> StageData:
    """The data with rows so often that an epoch has MIN_EPOCH steps."""
    times = -(-MIN_EPOCH * batch_size // len(data.rows.history))
    return data._replace(rows=jax.tree.map(lambda array: np.tile(array, (times, 1)), data.rows))


def stage_data(auditor_data: AuditorData, max_length: int, longest: int | None = None) -> tuple[StageData, Interactions]:
    """The auditor's histories as training data, and as a dataset; the last item of each history is for validation.

    Args:
      longest: cuts histories into pieces of at most so many items, each trained on.
    """
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
    width = auditor_data.history.shape[1]
    start = max(1, width - (longest or width))
    history = np.where(np.arange(width) >= start, np.roll(auditor_data.history, 1, axis=1), 0)
    long = np.array([len(items) > 1 for items in sequences])
    queries = sample_queries(Queries(users[long], history[long], auditor_data.history[long, -1]), VALIDATION_USERS)
    rows = pack(training, max_length, "all" if longest else "recent", longest and min(longest, max_length))
    return StageData(rows, user_tables(interactions, training), queries), interactions
