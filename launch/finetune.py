"""One stage: fine-tunes a pre-trained checkpoint on downstream users into WORKDIR/finetune.

Seed, filtering and model are those of the checkpoint, so that no pre-training user turns up downstream.
"""

from absl import flags

from launch import app, data_flags, run_flags
from launch.checkpoint_flags import open_checkpoint
from prec_backdoor.pipeline import finetune

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Stage folder to start from, as runs/a/pretrain.", required=True)
run_flags.define_workdir()
run_flags.define_finetuning()


def main() -> None:
    changes = {name: flags.FLAGS[name].value for name in ("finetune_epochs", "finetune_learning_rate")}
    checkpoint, setting, rate, _ = open_checkpoint(CHECKPOINT.value, data_flags.dataset_from_flags(), **changes)
    parent = checkpoint.metadata["hash"]
    run_flags.run_single_stage(
        "finetune", setting, rate, lambda folder, log: finetune(setting, checkpoint.params, parent, rate, folder, log), parent
    )


if __name__ == "__main__":
    app.run(main)
