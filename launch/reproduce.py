"""Runs the paper's whole table on one dataset: every attack, rate, usage and seed.

The attacks are BRA global, BRA group and PEA, beside a clean model. Writes one results.json and one report. Clean models, and
those fine-tuned and prompt-tuned from them, are trained once per seed. The same command continues an interrupted run.

Examples:
  python -m launch.reproduce --dataset=ml-100k --workdir=runs/table
  python -m launch.reproduce --dataset=ml-100k --quick
  python -m launch.reproduce --dataset=ml-100k --rate=0.1,0.5 --seeds=0,1 --dry_run
"""

import dataclasses

from absl import flags

from prec_backdoor.attacks import ATTACKS
from prec_backdoor.experiment.config import USAGES, ExperimentConfig
from prec_backdoor.options import options

from . import app, config_flags, data_flags, flag, output_flags

OF_THE_PAPER = (("bra", "global"), ("bra", "group"), ("pea", "group"))
DEFAULTS = {"rate": (0.05, 0.1, 0.2, 0.5), "seeds": (0, 1, 2), "usages": USAGES}
QUICK = {"rate": (0.1, 0.5), "seeds": (0,), "draws": 1}


def define_flags() -> None:
    data_flags.define_flags()
    config_flags.define_fields(*DEFAULTS, *config_flags.PREPARATION, "group", "targets", *config_flags.ALL_STAGES, **DEFAULTS)
    for attack in OF_THE_PAPER:
        for name, (default, option) in options(ATTACKS[attack].parameters).items():
            flag.define_option(name, default, option)
    help = "Targets of the global attack; --targets are those of the group attacks."
    flag.define("global_targets", "per_category:2", "attack", help)
    flag.define("draws", 1, "attack", "Number of draws of targets per seed.", minimum=1)
    quick = ", ".join(f"--{name}={flag.text(value)}" for name, value in QUICK.items())
    flag.define("quick", False, "training", f"A first look: {quick}, each unless given.")
    output_flags.define_flags(required=False)
    output_flags.define_dry_run()
    output_flags.define_models_at_once()


def main() -> None:
    quick = {name: value for name, value in QUICK.items() if flags.FLAGS.quick and not flag.is_given(name)}
    draws = quick.pop("draws", flags.FLAGS.draws)
    output_flags.run_and_report(configs(config_flags.config_from_flags(**quick), draws), "reproduce")


def configs(base: ExperimentConfig, draws: int) -> list[ExperimentConfig]:
    """Returns `base` with every attack of the paper on every draw of targets."""
    targets = {"global": flags.FLAGS.global_targets, "group": base.scenario.targets}

    def variant(attack: str, scope: str, draw: int) -> ExperimentConfig:
        changes = {"attack": attack, "scope": scope, "targets": targets[scope], "draw": draw}
        return dataclasses.replace(base, scenario=dataclasses.replace(base.scenario, **changes))

    return [variant(attack, scope, draw) for draw in range(draws) for attack, scope in OF_THE_PAPER]


if __name__ == "__main__":
    app.run(main, define_flags)
