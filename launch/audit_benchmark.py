"""Runs the leaderboard of attackers, audits and repairs on one dataset.

It shows which attacks are found, with how many false alarms, and which repairs help.

Attacks are made, audited and repaired as by the programs for one checkpoint; each seed has its own users, targets and weights.
The same command continues an interrupted run, model by model.

Examples:
  python -m launch.audit_benchmark --dataset=ml-100k --quick
  python -m launch.audit_benchmark --dataset=ml-100k --seeds=8,9,10 --clean_models=11 --workdir=runs/leaderboard
  python -m launch.audit_benchmark --dataset=ml-100k --attackers=pea,evasive --repairs=reestimate,distil
"""

import dataclasses

from absl import flags

from prec_backdoor.audit.audit import AuditConfig
from prec_backdoor.leaderboard.attackers import ATTACKERS
from prec_backdoor.leaderboard.contest import ContestConfig, run_contest
from prec_backdoor.leaderboard.report import leaderboard, write_leaderboard
from prec_backdoor.repairs import REPAIRS
from prec_backdoor.storage import workdir as work

from . import app, config_flags, data_flags, flag, output_flags

DEFAULT = ContestConfig()
QUICK = {
    "attackers": ("group-0.1", "global-0.1"),
    "repairs": ("finetune", "reestimate"),
    "seeds": (0,),
    "draws": 1,
    "clean_models": 1,
}


def define_flags() -> None:
    data_flags.define_flags()
    config_flags.define_fields("group", "seeds", *config_flags.PREPARATION, *config_flags.ALL_STAGES, seeds=DEFAULT.seeds)
    group = "leaderboard"
    flag.define(
        "attackers", DEFAULT.attackers, group, "Attackers whose models are audited (docs/audit.md).", choices=list(ATTACKERS)
    )
    flag.define("repairs", DEFAULT.repairs, group, "Repairs of the attacked models.", choices=list(REPAIRS))
    flag.define("draws", DEFAULT.draws, group, "Number of draws of targets per seed.", minimum=1)
    help = "The same for attackers who know the audits."
    flag.define("adaptive_draws", DEFAULT.adaptive_draws, group, help, minimum=1)
    help = "Number of seeds, from 0, whose clean models are audited."
    flag.define("clean_models", DEFAULT.clean_models, group, help, minimum=1)
    help = "Items whose p-value is at most this are repaired."
    flag.define("p_value", DEFAULT.p_value, group, help, minimum=0.0, maximum=1.0)
    quick = ", ".join(f"--{name}={flag.text(value)}" for name, value in QUICK.items())
    flag.define("quick", False, group, f"A first look: {quick}, each unless given.")
    output_flags.define_flags(required=False, trains=False)


def main() -> None:
    quick = {name: value for name, value in QUICK.items() if flags.FLAGS.quick and not flag.is_given(name)}
    names = [field.name for field in dataclasses.fields(ContestConfig)]
    contest = ContestConfig(**{name: flags.FLAGS[name].value for name in names} | quick)
    base = config_flags.config_from_flags(attack="clean", scope="group", rate=(0.0,), seeds=contest.seeds)
    interactions = data_flags.dataset_from_flags()
    description = {"config": base.flat() | dataclasses.asdict(contest), "dataset": interactions.summary()}
    folder = output_flags.workdir_or_default("leaderboard", [interactions.fingerprint, description["config"]])
    work.claim(folder, description)
    results = run_contest(interactions, base, contest, AuditConfig(), folder)
    write_leaderboard(folder, description, results)
    print(f"\n{leaderboard(results)}\n\nreport   {folder / 'report.html'}\nresults  {folder / 'results.json'}")


if __name__ == "__main__":
    app.run(main, define_flags)
