"""One stage: fine-tunes a pre-trained checkpoint on downstream users into WORKDIR/finetune.

Seed, filtering and model are those of the checkpoint, so that no pre-training user turns up downstream.
"""

from launch import app, checkpoint_flags, run_flags
from prec_backdoor.pipeline import finetune

checkpoint_flags.define_checkpoint()
run_flags.define_workdir()
run_flags.define_later_stage("finetune", "fine-tuning")


def main() -> None:
    checkpoint_flags.run_stage_on_checkpoint(finetune, ("finetune_epochs", "finetune_learning_rate"))


if __name__ == "__main__":
    app.run(main)
