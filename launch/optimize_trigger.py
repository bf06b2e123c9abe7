"""Runs one stage of PEA: optimises a prompt, the trigger, for a clean checkpoint, into WORKDIR/optimize_trigger.

The model is frozen.

Examples:
  python -m launch.optimize_trigger --dataset=ml-100k --checkpoint=runs/clean/pretrain --workdir=runs/pea
  python -m launch.optimize_trigger --dataset=ml-100k --checkpoint=runs/clean/pretrain --prompt_length=4 --workdir=runs/pea-4
  python -m launch.optimize_trigger --dataset=ml-100k --checkpoint=runs/clean/pretrain --prompt_epochs=5 --workdir=runs/pea-short
"""

from prec_backdoor.experiment.stages import optimize_trigger

from . import app, checkpoint_stage, config_flags


def define_flags() -> None:
    checkpoint_stage.define_flags()
    config_flags.define_fields(*config_flags.PROMPT)


def main() -> None:
    changes = config_flags.changed_fields(config_flags.PROMPT)
    checkpoint_stage.run_on_checkpoint(optimize_trigger, {**changes, "usages": ("prompt_tune",)}, expects="pretrain")


if __name__ == "__main__":
    app.run(main, define_flags)
