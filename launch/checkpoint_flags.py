"""A checkpoint from the command line, opened on the data that it belongs to."""

from typing import NamedTuple

from prec_backdoor import checkpoints
from prec_backdoor.checkpoints import Checkpoint
from prec_backdoor.config import ExperimentConfig
from prec_backdoor.data.filtering import k_core
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.setting import Setting, make_setting

_USAGES = {"pretrain": "zero_shot", "finetune": "fine_tune"}  # what measuring the result of a stage means


class Opened(NamedTuple):
    """A checkpoint, the setting that it was made in, the rate of its attack (0: clean), and the usage that it stands for."""

    checkpoint: Checkpoint
    setting: Setting
    rate: float
    usage: str


def open_checkpoint(path: str, interactions: Interactions, **changes) -> Opened:
    """Loads a checkpoint and splits `interactions` as it was made with; `changes` replace fields of its configuration.

    Raises:
      UserError: no sound checkpoint, or one of another dataset.
    """
    checkpoint = checkpoints.load(path)
    metadata = checkpoint.metadata
    config = ExperimentConfig.from_flat(metadata.get("config", {}) | changes)
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
