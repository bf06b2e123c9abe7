"""The stages of a setting, and what is measured of a model: each function does one, a checkpoint or None in between."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prec_backdoor import workdir as work
from prec_backdoor.attacks import clean
from prec_backdoor.evaluation import accuracy, exposure, lift, ranks, unseen
from prec_backdoor.models import init_params
from prec_backdoor.setting import Setting
from prec_backdoor.train.stage import Stage, StageResult, run_stage


class Measured(NamedTuple):
    """Ranks on the test queries: of the real next items [U], and of the targets [U, K]."""

    truth: np.ndarray
    targets: np.ndarray


def pretrain(setting: Setting, rate: float, folder: Path | None = None, log: Callable = print) -> StageResult:
    """The provider's stage; with rate 0 its clean counterpart, which differs in nothing else."""
    stage = Stage("pretrain", setting.config.pretrain, setting.config.scenario.poison() if rate else clean)
    params = init_params(setting.role_key("init"), setting.model)
    return _run(setting, stage, params, rate, None, folder, log)


def finetune(
    setting: Setting, params: dict, parent: str, rate: float, folder: Path | None = None, log: Callable = print
) -> StageResult:
    """The downstream company's stage: everything learns, on clean data.

    Args:
      params, parent: the provider's parameters, and their content hash for the chain of custody.
      rate: what the provider's were poisoned with; recorded, not used.
    """
    return _run(setting, Stage("finetune", setting.config.finetune), params, rate, parent, folder, log)


def _run(setting: Setting, stage: Stage, params, rate: float, parent: str | None, folder: Path | None, log: Callable):
    config = dataclasses.replace(setting.config, rate=(rate,), seeds=(setting.seed,))
    metadata = {"dataset": setting.interactions.summary(), "config": config.flat(), "parent": parent}
    data, key = getattr(setting, stage.name), setting.role_key(stage.name)
    return run_stage(stage, setting.model, params, data, setting.spec(rate), key, folder, metadata, log)


def measure(setting: Setting, params: dict) -> Measured:
    """Ranks the real next item and all targets for every downstream user."""
    targets = np.broadcast_to(setting.targets, (len(setting.test.users), len(setting.targets)))
    wanted = np.concatenate([setting.test.truth[:, None], targets], axis=1)
    found = ranks(params, setting.model, setting.test.history, wanted)
    return Measured(found[:, 0], found[:, 1:])


def save_measured(path: Path, setting: Setting, measured: Measured) -> None:
    """Keeps the ranks for the report."""
    pairs = unseen(setting.test.history, setting.targets)
    targets = np.where(pairs, measured.targets, np.nan)
    work.save_ranks(path, setting.test.users, setting.members(), measured.truth, targets)


def result_rows(setting: Setting, measured: Measured, clean_measured: Measured | None, cell: dict) -> Iterator[dict]:
    """One row for each segment of users that has any: all, and, where the scenario names a group, target and rest.

    Args:
      clean_measured: of the clean model in the same usage; None leaves lift out.
      cell: "attack", "rate", "usage".
    """
    history, targets, num_items = setting.test.history, setting.targets, setting.interactions.num_items
    segments = {"all": np.ones(len(history), bool)}
    if setting.in_group is not None:
        segments |= {"target": setting.members(), "rest": ~setting.members()}
    for name, chosen in segments.items():
        pairs = unseen(history[chosen], targets)
        if not pairs.any():  # a group of everybody leaves no rest
            continue
        row = {
            "attack": cell["attack"],
            "scope": setting.config.scenario.scope,
            "rate": cell["rate"],
            "demote_rate": None,
            "usage": cell["usage"],
            "users": name,
            "seed": setting.seed,
            "n_users": int(chosen.sum()),
            "n_targets": len(targets),
            **accuracy(measured.truth[chosen], history[chosen], num_items),
            **exposure(measured.targets[chosen], history[chosen], targets, num_items),
        }
        if clean_measured is not None:
            row |= lift(measured.targets[chosen], clean_measured.targets[chosen], pairs, num_items)
        yield row
