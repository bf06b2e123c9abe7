"""Is this checkpoint backdoored? Audits one with the downstream users' histories and the catalogue alone.

Exits with 0 for a clean verdict and with 3 for a suspicious one; WORKDIR/audit.json and audit.html tell why. Of the
checkpoint's metadata its attack, targets and group are not read: an auditor cannot trust them. Only its seed is, which
tells the downstream users from the pre-training users, and how the model is built and was trained.
"""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from launch import app, data_flags, run_flags
from launch.checkpoint_flags import open_checkpoint
from prec_backdoor import workdir as work
from prec_backdoor.audit.audit import FEW_MODELS, LARGE, MODELS, AuditConfig, audit_model, clean_models
from prec_backdoor.audit.known import known_of
from prec_backdoor.audit.report import write_audit

DEFAULT = AuditConfig()
SUSPICIOUS = 3  # exit status
BLIND = {  # what stands in the place of what the auditor does not know
    "attack": "clean",
    "scope": "global",
    "group": None,
    "targets": "unpopular:1",
    "draw": 0,
    "demote_rate": 0.0,
    "rate": [0.0],
    "usages": ["zero_shot"],
}

flags.DEFINE_string("checkpoint", None, "Stage folder to audit, as runs/a/pretrain.", required=True)
flags.DEFINE_integer("histories", DEFAULT.histories, "Most downstream users whose histories are used.", lower_bound=1)
flags.DEFINE_integer(
    "calibration_models",
    DEFAULT.calibration_models,
    f"Clean models trained on them, to know what is usual [{MODELS}; {FEW_MODELS} from {LARGE:,} items on].",
    lower_bound=1,
)
flags.DEFINE_float(
    "false_discovery_rate",
    DEFAULT.false_discovery_rate,
    "Expected share of false ones among the items flagged.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_integer("suspects", DEFAULT.suspects, "Items whose triggers are inverted.", lower_bound=1)
flags.DEFINE_integer("fresh_prompts", DEFAULT.fresh_prompts, "Random prompts that one with a prompt is seen with.", lower_bound=0)
run_flags.define_workdir()


def main() -> None:
    interactions = data_flags.dataset_from_flags()
    opened = open_checkpoint(flags.FLAGS.checkpoint, interactions, **BLIND)
    setting, checkpoint, folder = opened.setting, opened.checkpoint, Path(flags.FLAGS.workdir).expanduser()
    config = AuditConfig(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(AuditConfig)})
    dataset, digest = setting.interactions.summary(), checkpoint.metadata["hash"]
    work.claim(folder, {"config": vars(config), "dataset": dataset, "checkpoint": {"hash": digest}})
    known = known_of(setting, config.histories)
    log = work.metrics_log(folder, "calibration", flags.FLAGS.tensorboard)
    clean = clean_models(known, checkpoint.model, setting.config.pretrain, config, folder / "calibration", log=log)
    finding = audit_model(checkpoint.params, checkpoint.model, known, clean, config)
    about = {
        "checkpoint": str(checkpoint.path),
        "hash": digest,
        "stage": checkpoint.metadata["stage"],
        "dataset": f"{dataset['name']}, {dataset['items']:,} items",
        "users": f"{len(known.history):,} downstream",
    }
    content = write_audit(folder, finding, setting.interactions, config, about)
    group = f", shown most to {content['group']}" if content["group"] else ""
    print(f"{content['verdict']}: {content['flagged']} of {len(content['items'])} items flagged{group}")
    print(f"report  {folder / 'audit.html'}")
    if finding.suspicious:
        print(f"repair  python -m launch.repair --checkpoint={flags.FLAGS.checkpoint} --audit={folder} --workdir=..")
        sys.exit(SUSPICIOUS)


if __name__ == "__main__":
    app.run(main)
