"""Programs of one stage that starts from a checkpoint."""

from collections.abc import Callable, Mapping
from typing import Any

from prec_backdoor.errors import UserError
from prec_backdoor.experiment.opened import Opened
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.interop.exchange import known_attack
from prec_backdoor.train.stage import StageRun

from . import checkpoint_flags, output_flags


def define_flags() -> None:
    """--checkpoint, the dataset, the workdir."""
    checkpoint_flags.define_flags("start from")
    output_flags.define_flags()


def run_on_checkpoint(
    stage: Callable[[SeedSetup, StartPoint], StageRun], changes: Mapping[str, Any], expects: str | None = None
) -> None:
    """Runs a stage from --checkpoint into --workdir.

    Args:
      changes: replace fields of the checkpoint's configuration.
      expects: the stage that must have made the checkpoint; any by default.

    Raises:
      UserError: the checkpoint is not sound, or not one to start from.
    """
    opened = checkpoint_flags.opened_from_flags(changes)
    metadata, path = opened.checkpoint.metadata, opened.checkpoint.path
    if expects and metadata["stage"] != expects:
        raise UserError(f"{path}: made by {metadata['stage']}; {stage.__name__} starts from a checkpoint of {expects}")
    if expects == "pretrain" and opened.rate:
        raise UserError(f"{path}: attacked with rate {opened.rate:g}; {stage.__name__} starts from a clean model")
    setup = opened.setup
    rate = changes["rate"][0] if "rate" in changes else opened.rate
    start = StartPoint(opened.checkpoint.params, metadata["hash"], rate)
    output_flags.claim_and_run(with_history(stage(setup, start), opened), setup)


def with_history(run: StageRun, opened: Opened) -> StageRun:
    """The run with what its metadata keep of those of the checkpoint: its repair, and the attack that is known of."""
    metadata = opened.checkpoint.metadata
    kept = {"repaired": metadata["repaired"]} if "repaired" in metadata else {}  # as it is called in later reports
    if opened.aligned and run.metadata["config"]["attack"] == "clean":  # on own data it is not in the configuration
        kept |= {"attack": known_attack(metadata), "targets": run.metadata["targets"] or metadata.get("targets", [])}
    return run._replace(metadata=run.metadata | kept)
