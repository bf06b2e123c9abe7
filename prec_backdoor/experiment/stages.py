"""The stages of the provider and of the downstream company. Each function returns a record for `train.loop.run_stage`."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor.attacks import Penalty, clean
from prec_backdoor.data.packing import Rows
from prec_backdoor.data.vocabulary import vocabulary_of
from prec_backdoor.evaluation import mean_user_vector
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.models import init_params, init_prompt
from prec_backdoor.train.stage import WITHOUT_PROMPT, RunOptions, Stage, StageData, StageResult, StageRun

MIXTURE = ("triggers", "trigger_noise")  # parameters of an attack that mixes prompts, see `Attack.mix`


class StartPoint(NamedTuple):
    """What a stage starts from.

    Attributes:
      params: of a model.
      hash: their content hash, for the chain of custody.
      rate: of the attack on them.
      number: which of several triggers is to be optimised.
      others: further triggers, models that differ in the prompt.
    """

    params: dict
    hash: str | None = None
    rate: float = 0.0
    number: int = 0
    others: tuple["StartPoint", ...] = ()

    @classmethod
    def after(cls, result: StageResult, rate: float = 0.0) -> "StartPoint":
        """The start of the next stage."""
        return cls(result.params, result.hash, rate)


def pretrain(setup: SeedSetup, rate: float) -> StageRun:
    """The provider's first stage. With rate 0, or for an attack that comes after it, it is clean; nothing else differs."""
    method = setup.config.scenario.method()
    attacked = rate and not method.prompted
    # The poison of the attack at rate 0 leaves batches as they are: clean and attacked models share a program.
    poison, penalty = clean if method.prompted else method.poison, method.penalty if attacked else None
    stage = Stage("pretrain", setup.config.pretrain, poison, penalty=penalty)
    start = StartPoint(init_params(setup.role_key("init"), setup.model), rate=rate if attacked else 0.0)
    return run_on(setup, stage, start, setup.pretrain)


def edit(setup: SeedSetup, start: StartPoint) -> StageRun:
    """Changes the targets' vectors of a model and trains nothing; `start.rate` is how far.

    The users' histories are cut short, as downstream users have them (decision).
    """
    method, spec, model = setup.config.scenario.method(), setup.spec(start.rate), setup.model_of(start.params)
    queries = setup.short.validation
    chosen = setup.in_group[queries.users] if setup.config.scenario.scope == "group" else slice(None)
    profile = np.asarray(setup.interactions.profile)[queries.users][chosen]
    table = "output_items" if model.output_items else "items"

    def change(params: dict) -> dict:
        users = mean_user_vector(params, model, queries.history[chosen], profile)[: model.embed_dim]
        return params | {table: method.edit(params[table], users, spec)}

    stage = Stage("edit", setup.config.pretrain, trainable=(table,), change=change)
    return run_on(setup, stage, start, setup.short)


def optimize_trigger(setup: SeedSetup, start: StartPoint) -> StageRun:
    """PEA's second stage: a prompt for the frozen model, from the profiles of users whose histories are cut short.

    Of several triggers, each but the first has other initial weights, another key, and other users: of as many as there are,
    drawn with replacement, those that were drawn. With `trigger_history` it has their first items alone, and keeps the last
    epoch's parameters: the model has been trained on the validation items, so that an early epoch would be the best one, which it
    is not for a company's users.
    """
    stage = Stage("optimize_trigger", setup.config.training("prompt"), trainable=("prompt",))
    if not start.number:
        return run_on(setup, stage, _with_fresh_prompt(setup, start, "trigger_init"), setup.short)
    seed, length = [setup.seed, 3, start.number], setup.config.scenario.own_parameters().get("trigger_history", 0)
    stage = dataclasses.replace(stage, keep_last=length > 0)
    data = setup.stand_in(length, seed) if length else setup.short._replace(rows=of_drawn_users(setup.short.rows, seed))
    run = run_on(setup, stage, _with_fresh_prompt(setup, start, "trigger_init"), data)
    return run._replace(key=jax.random.fold_in(run.key, start.number))


def of_drawn_users(rows: Rows, seed: list[int]) -> Rows:
    """Returns the rows with labels only of users who are among as many drawn with replacement, about 63 % of them."""
    users = np.unique(rows.user[rows.user >= 0])
    drawn = np.unique(np.random.default_rng(seed).choice(users, len(users)))
    owner = np.take_along_axis(rows.user, np.maximum(rows.segment - 1, 0), axis=1)
    return rows._replace(label=np.where(np.isin(owner, drawn), rows.label, 0))


def implant(setup: SeedSetup, start: StartPoint) -> StageRun:
    """PEA's third stage: the model learns the backdoor with the frozen prompt in place; `start.rate` is the attack's.

    It trains on the short histories, as downstream users have (decision; on long ones more accuracy is lost), and keeps the last
    epoch's parameters: validation measures accuracy alone, and would keep a model from before the attack. With several triggers,
    that of `start` is handed out.
    """
    method, own = setup.config.scenario.method(), setup.config.scenario.own_parameters()
    mix = method.mix if own.keys() & set(MIXTURE) else None  # those at their defaults are not among them
    how = {"keep_last": True, "penalty": method.penalty, "mix": mix}
    stage = Stage("implant", setup.config.training("implant"), method.poison, WITHOUT_PROMPT, **how)
    run = run_on(setup, stage, start, setup.short)
    if mix is None:
        return run
    prompts = [each.params["prompt"] for each in (start, *start.others)]
    spec = run.spec._replace(prompts=jax.tree.map(lambda *leaves: np.stack(leaves), *prompts))
    return run._replace(spec=spec, metadata=run.metadata | {"other_triggers": [each.hash for each in start.others]})


def prompt_tune(setup: SeedSetup, start: StartPoint) -> StageRun:
    """A downstream company's stage: a fresh prompt for the frozen model; a prompt of the provider's is dropped."""
    stage = Stage("prompt_tune", setup.config.training("prompt"), trainable=("prompt",))
    return run_on(setup, stage, _with_fresh_prompt(setup, start, "prompt_init"), setup.finetune)


def finetune(setup: SeedSetup, start: StartPoint, name: str = "finetune", penalty: Penalty | None = None) -> StageRun:
    """A downstream company's stage: everything learns on clean data, a prompt of the provider's included.

    Args:
      name, penalty: of a repair that is a fine-tuning with an addition; its randomness is fine-tuning's.
    """
    stage = Stage(name, setup.config.training("finetune"), trainable=tuple(sorted(start.params)), penalty=penalty)
    return run_on(setup, stage, start, setup.finetune, role="finetune")


STAGES = {stage.__name__: stage for stage in (pretrain, edit, optimize_trigger, implant, prompt_tune, finetune)}


def run_on(setup: SeedSetup, stage: Stage, start: StartPoint, data: StageData, role: str | None = None) -> StageRun:
    """Returns the run of `stage` from `start` on a share of the setup's data.

    Args:
      role: what the key is for; the stage's name by default.
    """
    config = dataclasses.replace(setup.config, rate=(start.rate,), seeds=(setup.seed,))
    targets, trigger = (
        setup.interactions.item_ids[items if start.rate else []].tolist() for items in (setup.targets, setup.trigger)
    )
    return StageRun(
        stage=stage,
        model=setup.model_of(start.params),
        params=start.params,
        data=data,
        spec=setup.spec(start.rate),
        key=setup.role_key(role or stage.name),
        metadata={
            "dataset": setup.interactions.summary(),
            "own_data": setup.own,
            "config": config.flat(),
            "targets": targets,  # raw ids
            **({"trigger": trigger} if trigger else {}),
            "parent": start.hash,
        },
        options=RunOptions(shard_items=setup.shard_items),
        vocabulary=vocabulary_of(setup.interactions),
    )


def _with_fresh_prompt(setup: SeedSetup, start: StartPoint, role: str) -> StartPoint:
    key = setup.role_key(role)
    key = jax.random.fold_in(key, start.number) if start.number else key
    return start._replace(params=start.params | {"prompt": init_prompt(key, setup.prompted)})
