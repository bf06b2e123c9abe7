"""Runs one stage: fine-tunes a pre-trained checkpoint on downstream users, into WORKDIR/finetune.

Seed, filtering and model are those of the checkpoint, so no pre-training user is a downstream user.

Examples:
  python -m launch.finetune --dataset=ml-100k --checkpoint=runs/bra/pretrain --workdir=runs/bra
  python -m launch.finetune --dataset=ml-100k --checkpoint=runs/pea/implant --workdir=runs/pea
  python -m launch.finetune --dataset=ml-100k --checkpoint=runs/bra/pretrain --finetune_epochs=5 --workdir=runs/bra-5-epochs
  python -m launch.finetune --interactions=events.csv --checkpoint=provider/pretrain --new_items=add --workdir=runs/tuned
"""

from prec_backdoor.experiment.stages import finetune

from . import app, checkpoint_flags, checkpoint_stage, config_flags


def define_flags() -> None:
    checkpoint_stage.define_flags()
    checkpoint_flags.define_new_items()
    config_flags.define_fields(*config_flags.FINETUNE)


def main() -> None:
    checkpoint_stage.run_on_checkpoint(finetune, config_flags.changed_fields(config_flags.FINETUNE))


if __name__ == "__main__":
    app.run(main, define_flags)
