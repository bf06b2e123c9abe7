"""Repairs a checkpoint that launch.audit found suspicious, into WORKDIR/repair.

Only the downstream users' data are needed. It ends with accuracy, the suspects' exposure and what the triggers do that the audit
found in histories, before and after, on a page of its own, WORKDIR/repair.html, and in repair.json for programs. If a trigger
still works, it says what to try next. Repairs that need no suspects (finetune, prune, anchor) run without an audit too.

The result is a checkpoint like that of fine-tuning; launch.evaluate measures it. Attack, targets and group in the checkpoint's
metadata are copied for launch.evaluate, and not used.

Examples:
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --workdir=runs/repaired
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --repair=distil --workdir=runs/student
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --repair=anchor --workdir=runs/anchor
  python -m launch.repair --dataset=ml-100k --checkpoint=runs/a/pretrain --audit=runs/audit --p_value=0.05 --workdir=runs/wide
"""

import shlex
from pathlib import Path

from absl import flags

from prec_backdoor.audit.config import SUSPECT
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.opened import Opened
from prec_backdoor.experiment.stages import StartPoint, finetune
from prec_backdoor.parallel import primary
from prec_backdoor.repairs.choice import Choice, choose_suspects, no_suspects
from prec_backdoor.repairs.outcome import in_short, measure_outcome, still_working, write_outcome
from prec_backdoor.repairs.registry import AGAINST_TRIGGERS, REPAIRS, WITHOUT_SUSPECTS, check_repair
from prec_backdoor.reporting.formats import counted

from . import app, checkpoint_flags, checkpoint_stage, config_flags, data_flags, flag, output_flags


def define_flags() -> None:
    checkpoint_stage.define_flags()
    checkpoint_flags.define_new_items()
    help = f"Folder of an audit of this checkpoint (launch.audit), which has the suspects; {_without_suspects()} need none."
    flag.define("audit", None, "data", help, str)
    flag.define("repair", "reestimate", "repair", "How to repair (docs/audit.md).", choices=list(REPAIRS))
    help = "Items whose p-value in the audit is at most this are suspects."
    flag.define("p_value", SUSPECT, "repair", help, minimum=0.0, maximum=1.0)
    config_flags.define_fields(*config_flags.FINETUNE)


def main() -> None:
    checkpoint_flags.check_chosen()
    check_audit()
    changes = config_flags.changed_fields(config_flags.FINETUNE)
    opened = checkpoint_flags.opened_from_flags(changes)
    checkpoint_flags.print_ranked(opened)
    check_repair(flags.FLAGS.repair, opened.checkpoint.model)
    setup, digest = opened.setup, opened.checkpoint.metadata["hash"]
    choice = no_suspects(flags.FLAGS.p_value)
    if flags.FLAGS.audit is not None:
        choice = choose_suspects(Path(flags.FLAGS.audit).expanduser(), setup.interactions, digest, flags.FLAGS.p_value)
    found = f"{counted(len(choice.suspects), 'suspect')} of {setup.interactions.num_items:,} items. " if choice.items else ""
    print(f"{found}{choice.reason()}", flush=True)
    start = StartPoint(opened.checkpoint.params, digest, opened.rate)
    setup = setup._replace(shard_items=flags.FLAGS.shard_items)
    about = {"repair": {"repair": flags.FLAGS.repair, "suspects": setup.interactions.item_ids[choice.suspects].tolist()}}
    config = finetune(setup, start).metadata["config"]  # that of every repair
    with output_flags.claimed_stage("repair", setup, config, digest, about):  # before a repair trains a student
        run = REPAIRS[flags.FLAGS.repair](setup, start, choice.suspects, output_flags.stage_options("repair"))
        run = checkpoint_stage.with_history(run, opened)
        run = run._replace(metadata=run.metadata | {"repaired": {"repair": flags.FLAGS.repair, "suspects": len(choice.suspects)}})
        result = output_flags.run_single_stage(run)
        outcome = measure_outcome(setup, start.params, result.params, choice)
        if primary():
            _report(opened, choice, outcome, result.hash)


def check_audit() -> None:
    """Raises a UserError if there is no --audit and the repair needs one."""
    repair = flags.FLAGS.repair
    if flags.FLAGS.audit is None and repair not in WITHOUT_SUSPECTS:
        own = f"--workdir={output_flags.beside_workdir('audit')}"
        command = _command("audit", f"--checkpoint={flags.FLAGS.checkpoint}", own)
        raise UserError(
            f"--audit: --repair={repair} needs the suspects of an audit: {command}; without one, take {_without_suspects()}"
        )


def _without_suspects() -> str:
    return ", ".join(name for name in REPAIRS if name in WITHOUT_SUSPECTS)


def _report(opened: Opened, choice: Choice, outcome: dict, digest: str) -> None:
    """Writes repair.html and repair.json, and prints what they say."""
    dataset, folder = opened.setup.interactions.summary(), output_flags.workdir()
    about = {
        "checkpoint": str(opened.checkpoint.path),
        "hash": opened.checkpoint.metadata["hash"],
        "repaired": str(folder / "repair"),
        "repaired_hash": digest,
        "audit": flags.FLAGS.audit,
        "dataset": f"{dataset['name']}, {dataset['items']:,} items",
    }
    again = repair_again() if any(each["works"] for each in outcome["triggers"]) else {}
    content = write_outcome(folder, flags.FLAGS.repair, choice, outcome, about, again | next_commands())
    print(in_short(content))
    if choice.suspects.size and not outcome["triggers"]:
        print("trigger  not measured: the audit names none, but there may be one")
    for command in again.values():
        print(f"trigger {still_working(content)}\nrepair  {command}")
    print(f"report  {folder / 'repair.html'}")


def repair_again() -> dict[str, str]:
    """Returns the command of another repair of the same checkpoint, which takes triggers away."""
    other = next(name for name in AGAINST_TRIGGERS if name != flags.FLAGS.repair)
    names = ("checkpoint", "audit", "p_value", "new_items", *config_flags.FINETUNE)
    last = f"--repair={other}", f"--workdir={output_flags.beside_workdir(other)}"
    return {"As a trigger still works, repair the checkpoint in another way": _command("repair", *flag.repeat(names), *last)}


def next_commands() -> dict[str, str]:
    """Returns what to do next -> the command, which runs as printed in the same folder."""
    folder = output_flags.workdir()
    repaired = f"--checkpoint={folder / 'repair'}"
    return {
        "Audit the repaired model": _command("audit", repaired, f"--workdir={output_flags.beside_workdir('audit')}"),
        "Use it": _command("recommend", repaired, f"--output={folder / 'lists.csv'}"),
    }


def _command(program: str, *arguments: str) -> str:
    """Returns the command of a program on the same data, with more arguments."""
    given = flag.repeat((*data_flags.NAMES, "least_known", "plugin", "shard_items"))
    return f"{app.command(program)} {shlex.join([*given, *arguments])}"


if __name__ == "__main__":
    app.run(main, define_flags)
