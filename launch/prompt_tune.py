"""Runs one stage: tunes a fresh prompt for a frozen checkpoint on downstream users, into WORKDIR/prompt_tune.

Seed, filtering and model are those of the checkpoint; the provider's prompt, if any, is dropped.

Examples:
  python -m launch.prompt_tune --dataset=ml-100k --checkpoint=runs/pea/implant --workdir=runs/pea
  python -m launch.prompt_tune --dataset=ml-100k --checkpoint=runs/clean/pretrain --workdir=runs/clean
  python -m launch.prompt_tune --dataset=ml-100k --checkpoint=runs/pea/implant --prompt_length=4 --workdir=runs/pea-4
"""

from prec_backdoor.experiment.stages import prompt_tune

from . import app, checkpoint_flags, checkpoint_stage, config_flags


def define_flags() -> None:
    checkpoint_stage.define_flags()
    checkpoint_flags.define_new_items()
    config_flags.define_fields(*config_flags.PROMPT)


def main() -> None:
    changes = config_flags.changed_fields(config_flags.PROMPT)
    checkpoint_stage.run_on_checkpoint(prompt_tune, {**changes, "usages": ("prompt_tune",)})


if __name__ == "__main__":
    app.run(main, define_flags)
