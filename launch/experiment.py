"""Runs the whole pipeline for one scenario: pre-train clean and attacked, use downstream, measure, report.

The clean counterpart is trained once and shared by all rates. The same command continues an interrupted run.

Examples:
  python -m launch.experiment --dataset=ml-100k --group=occupation=student --rate=0.05,0.1,0.2 --seeds=0,1,2
  python -m launch.experiment --dataset=ml-100k --attack=pea --usages=zero_shot,prompt_tune,fine_tune
  python -m launch.experiment --dataset=ml-100k --scope=global --targets=per_category:2 --dry_run
"""

from absl import flags

from . import app, config_flags, data_flags, output_flags


def define_flags() -> None:
    data_flags.define_flags()
    config_flags.define_fields(*config_flags.PREPARATION, *config_flags.ATTACK, "usages", "seeds", *config_flags.ALL_STAGES)
    config_flags.define_rates(several=True)
    output_flags.define_flags(required=False)
    output_flags.define_dry_run()
    output_flags.define_models_at_once()


def main() -> None:
    output_flags.run_and_report(config_flags.configs_from_flags(), f"{flags.FLAGS.attack}-{flags.FLAGS.scope}")


if __name__ == "__main__":
    app.run(main, define_flags)
