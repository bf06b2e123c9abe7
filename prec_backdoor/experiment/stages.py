"""The stages of the provider and of the downstream company. Each function returns a record for `train.loop.run_stage`."""

import dataclasses
from typing import NamedTuple

import numpy as np

from prec_backdoor.attacks import Penalty, clean
from prec_backdoor.data.vocabulary import vocabulary_of
from prec_backdoor.evaluation import mean_user_vector
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.models import init_params, init_prompt
from prec_backdoor.train.stage import WITHOUT_PROMPT, RunOptions, Stage, StageData, StageResult, StageRun


class StartPoint(NamedTuple):
    """What a stage starts from: parameters, their content hash for the chain of custody, and the rate of the attack on them."""

    params: dict
    hash: str | None = None
    rate: float = 0.0

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
        return params | {table: method.edit(params[table], users, setup.counts, spec)}

    stage = Stage("edit", setup.config.pretrain, trainable=(table,), change=change)
    return run_on(setup, stage, start, setup.short)


def optimize_trigger(setup: SeedSetup, start: StartPoint) -> StageRun:
    """PEA's second stage: a prompt for the frozen model, from the profiles of users whose histories are cut short."""
    stage = Stage("optimize_trigger", setup.config.training("prompt"), trainable=("prompt",))
    return run_on(setup, stage, _with_fresh_prompt(setup, start, "trigger_init"), setup.short)


def implant(setup: SeedSetup, start: StartPoint) -> StageRun:
    """PEA's third stage: the model learns the backdoor with the frozen prompt in place; `start.rate` is the attack's.

    It trains on the short histories, as downstream users have (decision; on long ones more accuracy is lost), and keeps the last
    epoch's parameters: validation measures accuracy alone, and would keep a model from before the attack.
    """
    poison = setup.config.scenario.method().poison
    stage = Stage("implant", setup.config.training("implant"), poison, WITHOUT_PROMPT, keep_last=True)
    return run_on(setup, stage, start, setup.short)


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
    return start._replace(params=start.params | {"prompt": init_prompt(setup.role_key(role), setup.prompted)})
