"""Repairs a checkpoint that launch.audit found suspicious, with the downstream users' data alone, into WORKDIR/repair.

The result is a checkpoint as fine-tuning leaves one; launch.evaluate measures it. Attack, targets and group in the checkpoint's
metadata are passed on, for launch.evaluate, and not used.

Examples:
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --workdir=runs/repaired
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --repair=distil --workdir=runs/distilled
"""

from pathlib import Path

from absl import flags

from launch import app, checkpoint_stage, config_flags, data_flags, flag, output_flags
from prec_backdoor.audit.report import read_suspects
from prec_backdoor.experiment.opened import open_checkpoint
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.repairs import REPAIRS, SUSPECT


def define_flags() -> None:
    checkpoint_stage.define_flags()
    flag.define("audit", None, "data", "Folder of launch.audit on this checkpoint.", str, required=True)
    flag.define("repair", "reestimate", "training", "How (docs/audit.md).", choices=list(REPAIRS))
    help = "Items with a p-value up to this in the audit are suspects."
    flag.define("p_value", SUSPECT, "training", help, minimum=0.0, maximum=1.0)
    config_flags.define_fields(*config_flags.FINETUNE)


def main() -> None:
    changes = config_flags.changed_fields(config_flags.FINETUNE)
    opened = open_checkpoint(flags.FLAGS.checkpoint, data_flags.dataset_from_flags(), changes)
    setup, digest = opened.setup, opened.checkpoint.metadata["hash"]
    suspects = read_suspects(Path(flags.FLAGS.audit).expanduser(), setup.interactions, digest, flags.FLAGS.p_value)
    print(f"{len(suspects)} suspects of {setup.interactions.num_items:,} items")
    start = StartPoint(opened.checkpoint.params, digest, opened.rate)
    about = {"repair": {"repair": flags.FLAGS.repair, "suspects": setup.interactions.item_ids[suspects].tolist()}}
    setup = setup._replace(shard_items=flags.FLAGS.shard_items)
    run = REPAIRS[flags.FLAGS.repair](setup, start, suspects, output_flags.stage_options("repair"))
    output_flags.run_single_stage(run, setup, about)


if __name__ == "__main__":
    app.run(main, define_flags)
