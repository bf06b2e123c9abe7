"""Edits a checkpoint without training: turns the vectors of targets towards users, into WORKDIR/edit.

It starts from any checkpoint, an imported one too, on a dataset or on your own interactions, whose users, or the --group among
them, say where the vectors go. Group, targets and draw are those of the checkpoint unless given; on your own interactions it has
none.

Examples:
  python -m launch.edit --dataset=ml-100k --checkpoint=runs/clean/pretrain --group=occupation=student --workdir=runs/edited
  python -m launch.edit --dataset=ml-100k --checkpoint=runs/clean/pretrain --scope=global --edit_cosine=0.8 --workdir=runs/global
  python -m launch.edit --interactions=events.csv --checkpoint=runs/theirs/imported --scope=global --targets=ids:18 --workdir=e
"""

from prec_backdoor.attacks import ATTACKS
from prec_backdoor.experiment.stages import edit
from prec_backdoor.options import options

from . import app, checkpoint_stage, config_flags, flag

ATTACK = "edit"
CHOSEN = ("scope", "group", "targets", "draw")


def define_flags() -> None:
    checkpoint_stage.define_flags()
    config_flags.define_fields(*CHOSEN, **dict.fromkeys(CHOSEN[1:]))
    flag.define("rate", ATTACKS[ATTACK, "group"].default_rate, "attack", "How far vectors move.", above=0.0, maximum=1.0)
    for name, (default, option) in options(ATTACKS[ATTACK, "group"].parameters).items():
        flag.define_option(name, default, option)


def main() -> None:
    changes = dict(config_flags.changed_fields((*CHOSEN, "rate", *options(ATTACKS[ATTACK, "group"].parameters))))
    changes |= {"attack": ATTACK, "rate": (changes["rate"],)}
    checkpoint_stage.run_on_checkpoint(edit, changes)


if __name__ == "__main__":
    app.run(main, define_flags)
