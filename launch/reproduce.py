"""The paper's whole table on one dataset: clean, BRA global, BRA group and PEA x rates x usages x target draws x seeds.

One results.json and one report. Clean models, and what is fine-tuned and prompt-tuned from them, are trained once a seed. The
same command continues an interrupted run, cell by cell.
"""

import dataclasses

from absl import flags

from launch import app, run_flags
from prec_backdoor.config import USAGES, ExperimentConfig

OF_THE_PAPER = (("bra", "global"), ("bra", "group"), ("pea", "group"))
QUICK = {"rate": [0.1, 0.5], "seeds": [0], "draws": 1}

flags.DEFINE_bool("quick", False, f"A first look: {', '.join(f'{name} {value}' for name, value in QUICK.items())} unless given.")
flags.DEFINE_list("rate", [0.05, 0.1, 0.2, 0.5], "Replacement rates of every attack.")
flags.DEFINE_float("demote_rate", run_flags.DEFAULT.scenario.demote_rate, "PEA's demotion rate.")
flags.DEFINE_list("seeds", [0, 1, 2], "Each draws users, targets and initial weights anew.")
flags.DEFINE_integer("draws", 1, "Draws of targets a seed.", lower_bound=1)
flags.DEFINE_list("usages", list(USAGES), "What the downstream company does with the model.")
flags.DEFINE_string("global_targets", "per_category:2", "Target items of the global attack; --targets are the group attacks'.")
run_flags.define_workdir(required=False)
run_flags.define_data()
run_flags.define_all_stages()


def main() -> None:
    quick = {name: value for name, value in QUICK.items() if flags.FLAGS.quick and not flags.FLAGS[name].present}
    draws = quick.pop("draws", flags.FLAGS.draws)
    run_flags.run_and_report(configs(run_flags.config_from_flags(**quick), draws), "reproduce")


def configs(base: ExperimentConfig, draws: int) -> list[ExperimentConfig]:
    """Every attack on every draw of targets, otherwise as `base`."""
    targets = {"global": flags.FLAGS.global_targets, "group": base.scenario.targets}

    def variant(attack: str, scope: str, draw: int) -> ExperimentConfig:
        changes = {"attack": attack, "scope": scope, "targets": targets[scope], "draw": draw}
        return dataclasses.replace(base, scenario=dataclasses.replace(base.scenario, **changes))

    return [variant(attack, scope, draw) for draw in range(draws) for attack, scope in OF_THE_PAPER]


if __name__ == "__main__":
    app.run(main)
