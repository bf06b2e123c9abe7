"""A checkpoint, opened on the dataset that it was made on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prec_backdoor.data.filtering import k_core
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.setup import SeedSetup, make_setup
from prec_backdoor.storage import checkpoints
from prec_backdoor.storage.checkpoints import Checkpoint

_USAGES = {  # stage of a checkpoint -> the usage that it is a model of
    "pretrain": "zero_shot",
    "optimize_trigger": "zero_shot",
    "implant": "zero_shot",
    "prompt_tune": "prompt_tune",
    "finetune": "fine_tune",
    "repair": "fine_tune",
}


class Opened(NamedTuple):
    """A checkpoint, the setup that it was made in, the rate of its attack (0: clean), and the usage that it is a model of."""

    checkpoint: Checkpoint
    setup: SeedSetup
    rate: float
    usage: str


def open_checkpoint(path: str | Path, interactions: Interactions, changes: Mapping[str, Any] | None = None) -> Opened:
    """Loads a checkpoint and splits `interactions` as it was made with; `changes` replace fields of its configuration.

    Raises:
      UserError: no sound checkpoint, or one of another dataset.
    """
    checkpoint = checkpoints.load(path)
    metadata = checkpoint.metadata
    recorded = metadata.get("config", {})
    config = ExperimentConfig.from_flat(recorded | dict(changes or {}))
    _check_model(checkpoint, ExperimentConfig.from_flat(recorded))
    if metadata["stage"] not in _USAGES:
        raise UserError(f"{checkpoint.path}: made by an unknown stage '{metadata['stage']}'")
    if not metadata["finished"]:
        raise UserError(f"{checkpoint.path}: the stage was interrupted; run its command again to finish it")
    # Before anything else of the dataset: on another one, group and targets may be missing too.
    found, wanted = k_core(interactions, config.scenario.k_core).summary(), metadata["dataset"]
    if found["fingerprint"] != wanted.get("fingerprint"):
        raise UserError(
            f"{checkpoint.path}: made on dataset {wanted.get('name')} ({wanted.get('fingerprint')}), "
            f"not on {found['name']} ({found['fingerprint']}); change --dataset or --data_dir"
        )
    setup = make_setup(interactions, config, config.seeds[0])
    return Opened(checkpoint, setup, config.rate[0], _USAGES[metadata["stage"]])


def _check_model(checkpoint: Checkpoint, made_with: ExperimentConfig) -> None:
    declared = checkpoint.model
    of_config = dataclasses.replace(made_with.model, num_items=declared.num_items, profile_sizes=declared.profile_sizes)
    prompt_length = made_with.prompt_length if declared.prompt_length else 0
    if dataclasses.replace(of_config, prompt_length=prompt_length) != declared:
        raise UserError(f"{checkpoint.path}: metadata declares another model than its configuration describes; use another copy")


def check_counterpart(clean: Opened, other: Opened) -> None:
    """Raises a UserError that names the difference if `clean` is not the clean counterpart of `other`."""
    pairs = {
        "seed": (clean.setup.seed, other.setup.seed),
        "k_core": (clean.setup.config.scenario.k_core, other.setup.config.scenario.k_core),
        "usage": (clean.usage, other.usage),
        **{
            field.name: (getattr(clean.setup.model, field.name), getattr(other.setup.model, field.name))
            for field in dataclasses.fields(clean.setup.model)
        },
    }
    differences = [
        f"{name} is {of_clean}, --checkpoint has {wanted}" for name, (of_clean, wanted) in pairs.items() if of_clean != wanted
    ]
    if differences:
        raise UserError(f"--clean_checkpoint: {'; '.join(differences)}; give the clean counterpart")
    if clean.rate:
        raise UserError(f"--clean_checkpoint: attacked with rate {clean.rate:g}; give a clean model")
