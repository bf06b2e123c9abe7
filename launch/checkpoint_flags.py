"""A checkpoint from the command line, opened on the data that it belongs to."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import flags

from launch import data_flags, run_flags
from prec_backdoor import checkpoints
from prec_backdoor.checkpoints import Checkpoint
from prec_backdoor.config import ExperimentConfig
from prec_backdoor.data.filtering import k_core
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.pipeline import Source
from prec_backdoor.setting import Setting, make_setting

_USAGES = {  # what measuring the result of a stage means
    "pretrain": "zero_shot",
    "optimize_trigger": "zero_shot",
    "implant": "zero_shot",
    "prompt_tune": "prompt_tune",
    "finetune": "fine_tune",
    "repair": "fine_tune",
}


class Opened(NamedTuple):
    """A checkpoint, the setting that it was made in, the rate of its attack (0: clean), and the usage that it stands for."""

    checkpoint: Checkpoint
    setting: Setting
    rate: float
    usage: str


def define_checkpoint() -> None:
    """--checkpoint of the programs whose stage starts from one."""
    flags.DEFINE_string("checkpoint", None, "Stage folder to start from, as runs/a/pretrain.", required=True)


def run_stage_on_checkpoint(stage: Callable, names: Sequence[str], expects: str | None = None, **changes) -> None:
    """Runs one stage of prec_backdoor.pipeline from --checkpoint into --workdir.

    Args:
      names: flags that replace fields of the checkpoint's configuration, as `changes` do.
      expects: the stage whose result this one starts from; any by default.

    Raises:
      UserError: no sound checkpoint, or not one to start from.
    """
    changes |= {name: flags.FLAGS[name].value for name in names}
    opened = open_checkpoint(flags.FLAGS.checkpoint, data_flags.dataset_from_flags(), **changes)
    metadata = opened.checkpoint.metadata
    if expects and metadata["stage"] != expects:
        raise UserError(f"{opened.checkpoint.path}: result of {metadata['stage']}; {stage.__name__} starts from one of {expects}")
    if expects == "pretrain" and opened.rate:
        raise UserError(
            f"{opened.checkpoint.path}: attacked with rate {opened.rate:g}; {stage.__name__} starts from a clean model"
        )
    run_flags.run_single_stage(stage, opened.setting, Source(opened.checkpoint.params, metadata["hash"], opened.rate))


def open_checkpoint(path: str, interactions: Interactions, **changes) -> Opened:
    """Loads a checkpoint and splits `interactions` as it was made with; `changes` replace fields of its configuration.

    Raises:
      UserError: no sound checkpoint, or one of another dataset.
    """
    checkpoint = checkpoints.load(path)
    metadata = checkpoint.metadata
    recorded = metadata.get("config", {})
    config = ExperimentConfig.from_flat(recorded | changes)
    declared, made_with = checkpoint.model, ExperimentConfig.from_flat(recorded)
    of_config = dataclasses.replace(made_with.model, num_items=declared.num_items, profile_sizes=declared.profile_sizes)
    prompt_length = made_with.prompt_length if declared.prompt_length else 0
    if dataclasses.replace(of_config, prompt_length=prompt_length) != declared:
        raise UserError(f"{checkpoint.path}: metadata declares another model than its configuration describes; use another copy")
    if metadata["stage"] not in _USAGES:
        raise UserError(f"{checkpoint.path}: result of an unknown stage '{metadata['stage']}'")
    if not metadata["finished"]:
        raise UserError(f"{checkpoint.path}: the stage was interrupted; run its command again to finish it")
    # Before anything else of the dataset: on another one, group and targets may be missing too.
    found, wanted = k_core(interactions, config.scenario.k_core).summary(), metadata["dataset"]
    if found["fingerprint"] != wanted.get("fingerprint"):
        raise UserError(
            f"{checkpoint.path}: made on dataset {wanted.get('name')} ({wanted.get('fingerprint')}), "
            f"not on {found['name']} ({found['fingerprint']}); change --dataset or --data_dir"
        )
    setting = make_setting(interactions, config, config.seeds[0])
    return Opened(checkpoint, setting, config.rate[0], _USAGES[metadata["stage"]])
