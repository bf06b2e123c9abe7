"""The whole pipeline for one scenario: pre-train clean and attacked, use downstream, measure, report.

The clean counterpart is trained once and shared by all rates. The same command continues an interrupted run.
"""

from absl import flags

from launch import app, run_flags
from launch.run_flags import DEFAULT
from prec_backdoor.config import USAGES

run_flags.define_scenario()
run_flags.define_all_stages()
flags.DEFINE_list("usages", list(DEFAULT.usages), f"What the downstream company does with the model: some of {','.join(USAGES)}.")
flags.DEFINE_list("seeds", ["0"], "Each draws users, targets and initial weights anew.")
run_flags.define_workdir(required=False)


def main() -> None:
    configs = run_flags.configs_from_flags()
    scenario = configs[0].scenario
    run_flags.run_and_report(configs, f"{scenario.attack}-{scenario.scope}")


if __name__ == "__main__":
    app.run(main)
