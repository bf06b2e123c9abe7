"""Runs the leaderboard of attackers, audits and repairs on one dataset: who is found, at how many false alarms, what mends it.

Attacks are made, audited and repaired as by the programs for one checkpoint; each seed has users, targets and weights of its own.
The same command continues an interrupted run, model by model.

Examples:
  python -m launch.audit_benchmark --dataset=ml-100k --quick
  python -m launch.audit_benchmark --dataset=ml-100k --seeds=8,9,10 --clean_models=11 --workdir=runs/leaderboard
  python -m launch.audit_benchmark --dataset=ml-100k --attackers=pea,evasive --repairs=reestimate,distil
"""

import dataclasses

from absl import flags

from launch import app, config_flags, data_flags, flag, output_flags
from prec_backdoor.audit.audit import AuditConfig
from prec_backdoor.leaderboard.attackers import ATTACKERS
from prec_backdoor.leaderboard.contest import ContestConfig, run_contest
from prec_backdoor.leaderboard.report import leaderboard, write_leaderboard
from prec_backdoor.repairs import REPAIRS
from prec_backdoor.storage import workdir as work

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
    flag.define("attackers", DEFAULT.attackers, "attack", "Whose models are audited (docs/audit.md).", choices=list(ATTACKERS))
    flag.define("repairs", DEFAULT.repairs, "attack", "How they are repaired.", choices=list(REPAIRS))
    flag.define("draws", DEFAULT.draws, "attack", "Draws of targets per seed.", minimum=1)
    flag.define("adaptive_draws", DEFAULT.adaptive_draws, "attack", "The same, for attackers who know of audits.", minimum=1)
    flag.define(
        "clean_models", DEFAULT.clean_models, "attack", "Number of seeds, from 0, whose clean models are audited.", minimum=1
    )
    flag.define("p_value", DEFAULT.p_value, "attack", "Items up to this p-value are repaired.", minimum=0.0, maximum=1.0)
    flag.define("quick", False, "attack", f"A first look: {', '.join(f'{name} {value}' for name, value in QUICK.items())}.")
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
