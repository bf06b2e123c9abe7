"""The leaderboard of attackers, audits and repairs on one dataset: who is found, at how many false alarms, and what mends it.

Attacks are made, audited and repaired as by the programs for one checkpoint, each seed with users, targets and weights of its
own. The same command continues an interrupted run, model by model.
"""

import dataclasses

from absl import flags

from launch import app, data_flags, run_flags
from prec_backdoor import workdir as work
from prec_backdoor.audit.audit import AuditConfig
from prec_backdoor.audit.leaderboard.contest import ContestConfig, run_contest
from prec_backdoor.audit.leaderboard.report import leaderboard, write_leaderboard

DEFAULT = ContestConfig()
QUICK = {
    "attackers": ["group-0.1", "global-0.1"],
    "repairs": ["finetune", "reestimate"],
    "seeds": [0],
    "draws": 1,
    "clean_models": 1,
}

flags.DEFINE_bool("quick", False, f"A first look: {', '.join(f'{name} {value}' for name, value in QUICK.items())} unless given.")
flags.DEFINE_list("attackers", list(DEFAULT.attackers), "Whose models are audited (docs/audit.md).")
flags.DEFINE_list("repairs", list(DEFAULT.repairs), "How they are repaired.")
flags.DEFINE_list("seeds", list(map(str, DEFAULT.seeds)), "Each draws users, targets and initial weights anew.")
flags.DEFINE_integer("draws", DEFAULT.draws, "Draws of targets a seed.", lower_bound=1)
flags.DEFINE_integer("adaptive_draws", DEFAULT.adaptive_draws, "The same, for attackers who know of audits.", lower_bound=1)
flags.DEFINE_integer("clean_models", DEFAULT.clean_models, "Seeds, from 0, whose clean models are audited.", lower_bound=1)
flags.DEFINE_float("p_value", DEFAULT.p_value, "Items up to this p-value are repaired.", lower_bound=0.0, upper_bound=1.0)
flags.DEFINE_string("group", "occupation=student", "Group that the group attacks are for.")
run_flags.define_workdir(required=False, trains=False)
run_flags.define_all_stages()


def main() -> None:
    if flags.FLAGS.quick:
        for name, value in QUICK.items():
            if not flags.FLAGS[name].present:
                flags.FLAGS[name].value = value
    lists = {name: tuple(flags.FLAGS[name].value) for name in ("attackers", "repairs")}
    single = {name: flags.FLAGS[name].value for name in ("draws", "adaptive_draws", "clean_models", "p_value")}
    contest = ContestConfig(**lists, **single, seeds=tuple(run_flags.numbers("seeds", int)))
    base = run_flags.config_from_flags(attack="clean", scope="group", rate=[0.0], seeds=list(contest.seeds))
    interactions = data_flags.dataset_from_flags()
    description = {"config": base.flat() | dataclasses.asdict(contest), "dataset": interactions.summary()}
    folder = run_flags.workdir_or_default("leaderboard", [interactions.fingerprint, description["config"]])
    work.claim(folder, description)
    results = run_contest(interactions, base, contest, AuditConfig(), folder)
    write_leaderboard(folder, description, results)
    print(f"\n{leaderboard(results)}\n\nreport   {folder / 'report.html'}\nresults  {folder / 'results.json'}")


if __name__ == "__main__":
    app.run(main)
