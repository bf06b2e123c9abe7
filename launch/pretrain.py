"""One stage: pre-trains a model, clean or attacked, into WORKDIR/pretrain."""

from absl import flags

from launch import app, data_flags, run_flags
from prec_backdoor.pipeline import pretrain
from prec_backdoor.setting import make_setting

SEED = flags.DEFINE_integer("seed", 0, "Draws users, targets and initial weights.", lower_bound=0)
run_flags.define_workdir()
run_flags.define_scenario()
run_flags.define_training()


def main() -> None:
    config = run_flags.config_from_flags(seeds=[SEED.value])
    if len(config.rate) > 1:
        run_flags.single("rate")
    rate = config.rates()[-1]
    run_flags.run_single_stage(pretrain, make_setting(data_flags.dataset_from_flags(), config, SEED.value), rate)


if __name__ == "__main__":
    app.run(main)
