"""One stage of PEA: implants the backdoor behind the trigger of an optimize_trigger checkpoint, into WORKDIR/implant.

Group and targets are those of the checkpoint unless given.
"""

from absl import flags

from launch import app, checkpoint_flags, run_flags
from prec_backdoor.attacks import ATTACKS
from prec_backdoor.errors import UserError
from prec_backdoor.pipeline import implant

checkpoint_flags.define_checkpoint()
run_flags.define_workdir()
run_flags.define_rates()
run_flags.define_later_stage("implant", "implanting")
flags.DEFINE_string("group", None, "Target group [the checkpoint's].")
flags.DEFINE_string("targets", None, "Target items [the checkpoint's].")
flags.DEFINE_integer("draw", None, "Which random draw of the targets [the checkpoint's].", lower_bound=0)


def main() -> None:
    names = ["implant_epochs", "implant_learning_rate"]
    names += [name for name in ("group", "targets", "draw") if flags.FLAGS[name].value is not None]
    rate = run_flags.single("rate") if flags.FLAGS.rate else ATTACKS["pea", "group"].default_rate
    if not rate:
        raise UserError("--rate: 0 implants nothing; give a number above 0")
    changes = {"attack": "pea", "scope": "group", "rate": [rate], "demote_rate": run_flags.single("demote_rate")}
    checkpoint_flags.run_stage_on_checkpoint(implant, names, expects="optimize_trigger", **changes)


if __name__ == "__main__":
    app.run(main)
