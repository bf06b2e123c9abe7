"""The stages of a setting, and what is measured of a model: each function does one, parameters in between.

Every stage takes the keywords of `run_stage` that say how: `folder` to keep checkpoints and resume, `log` and `watch`. With
`run=Job` it is not run but described, for `run_jobs`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from prec_backdoor.attacks import Penalty, clean
from prec_backdoor.data.splits import sample_queries
from prec_backdoor.evaluation import accuracy, cutoffs, exposure, hit_rate, lift, ranks, unseen
from prec_backdoor.models import init_params, init_prompt
from prec_backdoor.setting import Setting
from prec_backdoor.train.stage import Stage, StageData, StageResult, run_stage

WATCHED_USERS = 2_000


class Source(NamedTuple):
    """What a stage starts from: parameters, their content hash for the chain of custody, and the rate they were attacked with."""

    params: dict
    hash: str | None = None
    rate: float = 0.0


class Measured(NamedTuple):
    """Ranks on the test queries: of the real next items [U], and of the targets [U, K]."""

    truth: np.ndarray
    targets: np.ndarray


def pretrain(setting: Setting, rate: float, **how) -> StageResult:
    """The provider's first stage; with rate 0, or for an attack that comes later, clean: it differs in nothing else."""
    method = setting.config.scenario.method()
    attacked = rate and not method.prompted
    poison, penalty = (method.poison, method.penalty) if attacked else (clean, None)
    stage = Stage("pretrain", setting.config.pretrain, poison, penalty=penalty)
    source = Source(init_params(setting.role_key("init"), setting.model), rate=rate if attacked else 0.0)
    return run_on(setting, stage, source, setting.pretrain, **how)


def optimize_trigger(setting: Setting, source: Source, **how) -> StageResult:
    """PEA's second stage: a prompt for the frozen model, from the profiles of users whose histories are cut short."""
    stage = Stage("optimize_trigger", setting.config.training("prompt"), trainable=("prompt",))
    return run_on(setting, stage, _with_fresh_prompt(setting, source, "trigger_init"), setting.short, **how)


def implant(setting: Setting, source: Source, **how) -> StageResult:
    """PEA's third stage: the model learns the backdoor with the prompt, frozen, in place; `source.rate` is the attack's.

    It trains on the short histories, as downstream users have (decision; on long ones more accuracy is lost), and keeps the last
    epoch's parameters: validation knows of accuracy alone, and would keep a model from before the attack.
    """
    poison = setting.config.scenario.method().poison
    stage = Stage("implant", setting.config.training("implant"), poison, ("items", "encoder"), keep_last=True)
    return run_on(setting, stage, source, setting.short, **how)


def prompt_tune(setting: Setting, source: Source, **how) -> StageResult:
    """A downstream company's stage: a fresh prompt for the frozen model; a prompt of the provider's is dropped."""
    stage = Stage("prompt_tune", setting.config.training("prompt"), trainable=("prompt",))
    return run_on(setting, stage, _with_fresh_prompt(setting, source, "prompt_init"), setting.finetune, **how)


def finetune(setting: Setting, source: Source, name: str = "finetune", penalty: Penalty | None = None, **how) -> StageResult:
    """A downstream company's stage: everything learns, a prompt of the provider's included, on clean data.

    Args:
      name, penalty: of a repair that is a fine-tuning with something added; its randomness is fine-tuning's.
    """
    stage = Stage(name, setting.config.training("finetune"), trainable=tuple(sorted(source.params)), penalty=penalty)
    return run_on(setting, stage, source, setting.finetune, role="finetune", **how)


def _with_fresh_prompt(setting: Setting, source: Source, role: str) -> Source:
    return source._replace(params=source.params | {"prompt": init_prompt(setting.role_key(role), setting.prompted)})


def run_on(
    setting: Setting,
    stage: Stage,
    source: Source,
    data: StageData,
    role: str | None = None,
    run: Callable = run_stage,
    **how,
) -> StageResult:
    """Runs `stage` from `source` on a share of the setting's data; `role` is what the key is for, by default the stage's name."""
    config = dataclasses.replace(setting.config, rate=(source.rate,), seeds=(setting.seed,))
    metadata = {"dataset": setting.interactions.summary(), "config": config.flat(), "parent": source.hash}
    model, key = setting.model_of(source.params), setting.role_key(role or stage.name)
    how |= {"metadata": metadata, "shard_items": setting.shard_items}
    return run(stage, model, source.params, data, setting.spec(source.rate), key, **how)


def measure(setting: Setting, params: dict) -> Measured:
    """Ranks the real next item and all targets for every downstream user."""
    test = setting.test
    targets = np.broadcast_to(setting.targets, (len(test.users), len(setting.targets)))
    wanted = np.concatenate([test.truth[:, None], targets], axis=1)
    profiles = setting.interactions.profile[test.users]
    found = ranks(params, setting.model_of(params), test.history, wanted, profiles, setting.shard_items)
    return Measured(found[:, 0], found[:, 1:])


def cell_of(setting: Setting, rate: float, usage: str) -> dict:
    """What identifies a cell of the results, a model in one usage: attack, scope, rate, demote_rate, usage, seed, draw."""
    scenario = setting.config.scenario
    return {
        "attack": scenario.attack if rate else "clean",
        "scope": scenario.scope,
        "rate": rate,
        "demote_rate": scenario.demote_rate if rate and scenario.method().prompted else None,
        "usage": usage,
        "seed": setting.seed,
        "draw": scenario.draw,
    }


def result_rows(setting: Setting, cell: dict, measured: Measured, clean_measured: Measured | None) -> Iterator[dict]:
    """One row for each segment of users that has any: all, and, where the scenario names a group, target and rest.

    Args:
      cell: of `cell_of`.
      clean_measured: of the clean model in the same usage; None leaves lift out.
    """
    history, targets, num_items = setting.test.history, setting.targets, setting.interactions.num_items
    for name, chosen in segments(setting).items():
        pairs = unseen(history[chosen], targets)
        if not pairs.any():  # a group of everybody leaves no rest
            continue
        row = {
            **cell,
            "users": name,
            "n_users": int(chosen.sum()),
            "n_targets": len(targets),
            **accuracy(measured.truth[chosen], history[chosen], num_items),
            **exposure(measured.targets[chosen], history[chosen], targets, num_items),
        }
        if clean_measured is not None:
            row |= lift(measured.targets[chosen], clean_measured.targets[chosen], pairs, num_items)
        yield row


def watch_exposure(setting: Setting) -> Callable[[dict], dict]:
    """For `run_stage`: the targets' exposure by segment on test users, a sample of them, to see whether a backdoor survives."""
    setting = setting._replace(test=sample_queries(setting.test, WATCHED_USERS))

    def watch(params: dict) -> dict:
        shown = measure(setting, params).targets
        pairs = unseen(setting.test.history, setting.targets)
        return {
            f"exposure_hr@{k}/{name}": hit_rate(shown[chosen][pairs[chosen]], k)
            for name, chosen in segments(setting).items()
            for k in cutoffs(setting.interactions.num_items)
            if pairs[chosen].any()
        }

    return watch


def segments(setting: Setting) -> dict[str, np.ndarray]:
    """Name -> [U] bool over the test users: all, and, where the scenario names a group, target and rest."""
    everybody = np.ones(len(setting.test.users), bool)
    if setting.in_group is None:
        return {"all": everybody}
    return {"all": everybody, "target": setting.members(), "rest": ~setting.members()}
