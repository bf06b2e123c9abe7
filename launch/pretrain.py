"""Runs one stage: pre-trains a model, clean or attacked, into WORKDIR/pretrain.

Examples:
  python -m launch.pretrain --dataset=ml-100k --attack=clean --workdir=runs/clean
  python -m launch.pretrain --dataset=ml-100k --attack=bra --rate=0.1 --workdir=runs/bra
  python -m launch.pretrain --dataset=ml-100k --scope=global --targets=per_category:2 --workdir=runs/global
"""

from absl import flags

from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.experiment.stages import pretrain

from . import app, config_flags, data_flags, flag, output_flags


def define_flags() -> None:
    data_flags.define_flags()
    config_flags.define_fields(*config_flags.PREPARATION, *config_flags.ATTACK, *config_flags.MODEL_AND_TRAINING)
    config_flags.define_rates(several=False)
    flag.define("seed", 0, "training", "Draws users, targets and initial weights.", minimum=0, maximum=2**32 - 1)
    output_flags.define_flags()


def main() -> None:
    config_flags.check_parameters()
    given = config_flags.single_rate()
    config = config_flags.config_from_flags(seeds=(flags.FLAGS.seed,), **given)
    setup = make_setup(data_flags.dataset_from_flags(), config, flags.FLAGS.seed)
    output_flags.claim_and_run(pretrain(setup, config.rates()[-1]), setup)


if __name__ == "__main__":
    app.run(main, define_flags)
