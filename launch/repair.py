"""Repairs a checkpoint that launch.audit found suspicious, with the downstream users' data alone, into WORKDIR/repair.

The result is a checkpoint as fine-tuning leaves one; launch.evaluate measures it. Attack, targets and group in the checkpoint's
metadata are passed on, for that, and not used.
"""

from pathlib import Path

from absl import flags

from launch import app, checkpoint_flags, data_flags, run_flags
from prec_backdoor.audit.repairs import REPAIRS, SUSPECT
from prec_backdoor.audit.report import read_suspects
from prec_backdoor.pipeline import Source

checkpoint_flags.define_checkpoint()
flags.DEFINE_string("audit", None, "Folder of launch.audit on this checkpoint.", required=True)
flags.DEFINE_enum("repair", "reestimate", list(REPAIRS), "How (docs/audit.md).")
flags.DEFINE_float(
    "p_value", SUSPECT, "Items whose p-value in the audit is at most this are suspects.", lower_bound=0.0, upper_bound=1.0
)
run_flags.define_workdir()
run_flags.define_later_stage("finetune", "fine-tuning")


def main() -> None:
    changes = {name: flags.FLAGS[name].value for name in ("finetune_epochs", "finetune_learning_rate")}
    opened = checkpoint_flags.open_checkpoint(flags.FLAGS.checkpoint, data_flags.dataset_from_flags(), **changes)
    interactions, digest = opened.setting.interactions, opened.checkpoint.metadata["hash"]
    suspects = read_suspects(Path(flags.FLAGS.audit).expanduser(), interactions, digest, flags.FLAGS.p_value)

    def repair(setting, source, **how):
        return REPAIRS[flags.FLAGS.repair](setting, source, suspects, **how)

    print(f"{len(suspects)} suspects of {interactions.num_items:,} items")
    about = {"repair": {"repair": flags.FLAGS.repair, "suspects": interactions.item_ids[suspects].tolist()}}
    run_flags.run_single_stage(repair, opened.setting, Source(opened.checkpoint.params, digest, opened.rate), about)


if __name__ == "__main__":
    app.run(main)
