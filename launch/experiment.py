"""The whole pipeline for one scenario: pre-train clean and attacked, use downstream, measure, report.

The clean counterpart is trained once and shared by all rates. The same command continues an interrupted run.
"""

import hashlib
import json
from pathlib import Path

from absl import flags

from launch import app, data_flags, run_flags
from prec_backdoor.config import USAGES, ExperimentConfig
from prec_backdoor.experiment import run_experiment

run_flags.define_scenario()
run_flags.define_training()
run_flags.define_finetuning()
flags.DEFINE_list("usages", list(USAGES), "What the downstream company does with the model.")
flags.DEFINE_list("seeds", ["0"], "Each draws users, targets and initial weights anew.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; resumable [runs/, named after dataset and flags].")


def main() -> None:
    config = run_flags.config_from_flags()
    interactions = data_flags.dataset_from_flags()
    folder = Path(WORKDIR.value).expanduser() if WORKDIR.value else _default_workdir(interactions.fingerprint, config)
    run_flags.print_results(folder, run_experiment(interactions, config, folder))


def _default_workdir(fingerprint: str, config: ExperimentConfig) -> Path:
    scenario = config.scenario
    digest = hashlib.sha256(json.dumps([fingerprint, config.flat()]).encode()).hexdigest()[:8]
    dataset = data_flags.DATASET.value.replace(":", "-").replace("/", "-")
    return Path("runs") / f"{dataset}-{scenario.attack}-{scenario.scope}-{digest}"


if __name__ == "__main__":
    app.run(main)
