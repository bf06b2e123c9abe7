"""Runs the leaderboard of attackers, audits and repairs on one dataset.

It shows which attacks are found, with how many false alarms, and which repairs help.

Attacks are made, audited and repaired as by the programs for one checkpoint; each seed has its own users, targets and weights.
The same command continues an interrupted run, model by model.

Examples:
  python -m launch.audit_benchmark --dataset=ml-100k --quick
  python -m launch.audit_benchmark --dataset=ml-100k --seeds=8,9,10 --clean_models=11 --workdir=runs/leaderboard
  python -m launch.audit_benchmark --dataset=ml-100k --attackers=pea,evasive --repairs=reestimate,distil --dry_run
  python -m launch.audit_benchmark --dataset=ml-100k --backbones=sasrec,gru4rec,bert4rec --workdir=runs/backbones
"""

import dataclasses

from absl import flags

from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.leaderboard.backbones import plan_contests, run_contests
from prec_backdoor.leaderboard.config import ContestConfig
from prec_backdoor.leaderboard.progress import describe_plan
from prec_backdoor.leaderboard.report import leaderboard, write_leaderboard
from prec_backdoor.options import options
from prec_backdoor.repairs.registry import REPAIRS
from prec_backdoor.storage import workdir as work

from . import app, config_flags, data_flags, flag, output_flags

QUICK = {
    "attackers": ("group-0.1", "global-0.1"),
    "repairs": ("finetune", "reestimate"),
    "seeds": (0,),
    "draws": 1,
    "clean_models": 1,
}


def define_flags() -> None:
    data_flags.define_flags()
    fields = options(ContestConfig)
    seeds, _ = fields.pop("seeds")
    config_flags.define_fields("group", "seeds", *config_flags.PREPARATION, *config_flags.ALL_STAGES, seeds=seeds)
    for name, (default, described) in fields.items():
        described = described._replace(choices=REPAIRS) if name == "repairs" else described
        flag.define_option(name, default, described, str if name == "backbones" else None)
    quick = ", ".join(f"--{name}={flag.text(value)}" for name, value in QUICK.items())
    flag.define("quick", False, "leaderboard", f"A first look: {quick}, each unless given.")
    output_flags.define_flags(required=False, trains=False)
    output_flags.define_dry_run()


def main() -> None:
    quick = {name: value for name, value in QUICK.items() if flags.FLAGS.quick and not flag.is_given(name)}
    names = [field.name for field in dataclasses.fields(ContestConfig)]
    contest = ContestConfig(**{name: flags.FLAGS[name].value for name in names} | quick)
    base = config_flags.config_from_flags(attack="clean", scope="group", rate=(0.0,), seeds=contest.seeds)
    interactions = data_flags.dataset_from_flags()
    taking_part = {name: value for name, value in dataclasses.asdict(contest).items() if value or name != "backbones"}
    description = {"config": base.flat() | taking_part, "dataset": interactions.summary()}
    folder = output_flags.workdir_or_default("leaderboard", [interactions.fingerprint, description["config"]])
    if flags.FLAGS.dry_run:
        for name, plan in plan_contests(interactions, base, contest, AuditConfig()).items():
            print(f"{name and f'backbone {name}'}\n{describe_plan(plan, folder / name)}".lstrip())
        print(f"workdir  {folder}")
        return
    with work.claimed(folder, description):
        results = run_contests(interactions, base, contest, AuditConfig(), folder)
        write_leaderboard(folder, description, results)
        print(f"\n{leaderboard(results)}\n\nreport   {folder / 'report.html'}\nresults  {folder / 'results.json'}")


if __name__ == "__main__":
    app.run(main, define_flags)
