"""Runs one stage of PEA: implants the backdoor behind an optimised trigger, into WORKDIR/implant.

The trigger is that of an optimize_trigger checkpoint. Group, targets and draw are those of the checkpoint unless given.

Examples:
  python -m launch.implant --dataset=ml-100k --checkpoint=runs/pea/optimize_trigger --workdir=runs/pea
  python -m launch.implant --dataset=ml-100k --checkpoint=runs/pea/optimize_trigger --rate=0.5 --workdir=runs/pea-0.5
  python -m launch.implant --dataset=ml-100k --checkpoint=runs/pea/optimize_trigger --targets=unpopular:5 --workdir=runs/pea-few
"""

from prec_backdoor.attacks import attack_parameters, find_attack
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.stages import implant

from . import app, checkpoint_stage, config_flags

CHOSEN = ("group", "targets", "draw")


def define_flags() -> None:
    checkpoint_stage.define_flags()
    config_flags.define_fields(*config_flags.IMPLANT)
    config_flags.define_fields(*CHOSEN, **dict.fromkeys(CHOSEN))
    config_flags.define_fields("evade")
    config_flags.define_rates(several=False)


def main() -> None:
    rate = config_flags.single_rate().get("rate", (find_attack("pea", "group").default_rate,))
    if not rate[0]:
        raise UserError("--rate: must be > 0, got 0")
    changes = config_flags.changed_fields((*config_flags.IMPLANT, *CHOSEN, "evade", *attack_parameters()))
    if changes.get("triggers", 1) > 1:
        raise UserError("--triggers: this program has one trigger, that of its checkpoint; launch.experiment makes several")
    given = {**changes, "attack": "pea", "scope": "group", "rate": rate}
    checkpoint_stage.run_on_checkpoint(implant, given, expects="optimize_trigger")


if __name__ == "__main__":
    app.run(main, define_flags)
