"""Repairs a checkpoint that launch.audit found suspicious, into WORKDIR/repair.

Only the downstream users' data are needed. It ends with accuracy and the suspects' exposure before and after, on a page of its
own, WORKDIR/repair.html, and in repair.json for programs.

The result is a checkpoint like that of fine-tuning; launch.evaluate measures it. Attack, targets and group in the checkpoint's
metadata are copied for launch.evaluate, and not used.

Examples:
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --workdir=runs/repaired
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --repair=distil --workdir=runs/student
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --repair=anchor --workdir=runs/anchor
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --p_value=0.05 --workdir=runs/wide
"""

import shlex
from pathlib import Path

from absl import flags

from prec_backdoor.audit.config import SUSPECT
from prec_backdoor.experiment.opened import Opened
from prec_backdoor.experiment.stages import StartPoint, finetune
from prec_backdoor.parallel import primary
from prec_backdoor.repairs.choice import Choice, choose_suspects
from prec_backdoor.repairs.outcome import in_short, measure_outcome, write_outcome
from prec_backdoor.repairs.registry import REPAIRS, check_repair

from . import app, checkpoint_flags, checkpoint_stage, config_flags, data_flags, flag, output_flags


def define_flags() -> None:
    checkpoint_stage.define_flags()
    checkpoint_flags.define_new_items()
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
    choice = choose_suspects(Path(flags.FLAGS.audit).expanduser(), setup.interactions, digest, flags.FLAGS.p_value)
    print(f"{len(choice.suspects)} suspects of {setup.interactions.num_items:,} items. {choice.reason()}", flush=True)
    start = StartPoint(opened.checkpoint.params, digest, opened.rate)
    setup = setup._replace(shard_items=flags.FLAGS.shard_items)
    about = {"repair": {"repair": flags.FLAGS.repair, "suspects": setup.interactions.item_ids[choice.suspects].tolist()}}
    config = finetune(setup, start).metadata["config"]  # that of every repair
    with output_flags.claimed_stage("repair", setup, config, digest, about):  # before a repair trains a student
        run = REPAIRS[flags.FLAGS.repair](setup, start, choice.suspects, output_flags.stage_options("repair"))
        run = run._replace(metadata=run.metadata | {"repaired": {"repair": flags.FLAGS.repair, "suspects": len(choice.suspects)}})
        result = output_flags.run_single_stage(run)
        outcome = measure_outcome(setup, start.params, result.params, choice)
        if primary():
            _report(opened, choice, outcome, result.hash)


def _report(opened: Opened, choice: Choice, outcome: dict, digest: str) -> None:
    """Writes repair.html and repair.json, and prints what they say."""
    dataset, folder = opened.setup.interactions.summary(), output_flags.workdir()
    about = {
        "checkpoint": str(opened.checkpoint.path),
        "hash": opened.checkpoint.metadata["hash"],
        "repaired": str(folder / "repair"),
        "repaired_hash": digest,
        "audit": str(flags.FLAGS.audit),
        "dataset": f"{dataset['name']}, {dataset['items']:,} items",
    }
    content = write_outcome(folder, flags.FLAGS.repair, choice, outcome, about, next_commands())
    print(f"{in_short(content)}\nreport  {folder / 'repair.html'}")


def next_commands() -> dict[str, str]:
    """Returns what to do next -> the command, which runs as printed in the same folder."""
    folder = output_flags.workdir()
    given = flag.repeat((*data_flags.NAMES, "least_known", "plugin", "shard_items"))
    given.append(f"--checkpoint={folder / 'repair'}")
    of = {
        "Audit the repaired model": ("audit", f"--workdir={folder.with_name(folder.name + '-audit')}"),
        "Use it": ("recommend", f"--output={folder / 'lists.csv'}"),
    }
    return {what: f"{app.command(program)} {shlex.join([*given, last])}" for what, (program, last) in of.items()}


if __name__ == "__main__":
    app.run(main, define_flags)
