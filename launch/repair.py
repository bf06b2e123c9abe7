"""Repairs a checkpoint that launch.audit found suspicious, into WORKDIR/repair.

Only the downstream users' data are needed.

The result is a checkpoint like that of fine-tuning; launch.evaluate measures it. Attack, targets and group in the checkpoint's
metadata are copied for launch.evaluate, and not used.

Examples:
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --workdir=runs/repaired
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --repair=distil --workdir=runs/student
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --p_value=0.05 --workdir=runs/wide
"""

from pathlib import Path

from absl import flags

from prec_backdoor.audit.config import SUSPECT
from prec_backdoor.audit.report import read_suspects
from prec_backdoor.experiment.stages import StartPoint, finetune
from prec_backdoor.repairs.registry import REPAIRS, check_repair

from . import app, checkpoint_flags, checkpoint_stage, config_flags, flag, output_flags


def define_flags() -> None:
    checkpoint_stage.define_flags()
    flag.define("audit", None, "data", "Folder of an audit of this checkpoint (launch.audit).", str, required=True)
    flag.define("repair", "reestimate", "repair", "How to repair (docs/audit.md).", choices=list(REPAIRS))
    help = "Items whose p-value in the audit is at most this are suspects."
    flag.define("p_value", SUSPECT, "repair", help, minimum=0.0, maximum=1.0)
    config_flags.define_fields(*config_flags.FINETUNE)


def main() -> None:
    changes = config_flags.changed_fields(config_flags.FINETUNE)
    opened = checkpoint_flags.opened_from_flags(changes)
    check_repair(flags.FLAGS.repair, opened.checkpoint.model)
    setup, digest = opened.setup, opened.checkpoint.metadata["hash"]
    suspects = read_suspects(Path(flags.FLAGS.audit).expanduser(), setup.interactions, digest, flags.FLAGS.p_value)
    print(f"{len(suspects)} suspects of {setup.interactions.num_items:,} items")
    start = StartPoint(opened.checkpoint.params, digest, opened.rate)
    setup = setup._replace(shard_items=flags.FLAGS.shard_items)
    about = {"repair": {"repair": flags.FLAGS.repair, "suspects": setup.interactions.item_ids[suspects].tolist()}}
    config = finetune(setup, start).metadata["config"]  # that of every repair
    with output_flags.claimed_stage("repair", setup, config, digest, about):  # before a repair trains a student
        output_flags.run_single_stage(REPAIRS[flags.FLAGS.repair](setup, start, suspects, output_flags.stage_options("repair")))


if __name__ == "__main__":
    app.run(main, define_flags)
