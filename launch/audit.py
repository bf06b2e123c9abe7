"""Audits a checkpoint: is it backdoored? Needs the downstream users' histories and the catalogue, nothing else.

Exits with 0 for a clean verdict and with 3 for a suspicious one; WORKDIR/audit.json and audit.html give the reasons. Attack,
targets and group in the checkpoint's metadata are not read: an auditor cannot trust them. Its seed, model and training
configuration are: the seed tells downstream users from pre-training users.

Examples:
  python -m launch.audit --dataset=ml-100k --checkpoint=runs/a/pretrain --workdir=runs/audit
  python -m launch.audit --dataset=ml-100k --checkpoint=runs/a/pretrain --calibration_models=8 --workdir=runs/audit-8
  python -m launch.audit --data_dir=data/shop --checkpoint=from/provider --false_discovery_rate=0.01 --workdir=runs/audit-shop
"""

import dataclasses
import shlex
import sys

from absl import flags

from prec_backdoor.attacks import attack_parameters
from prec_backdoor.audit.audit import FEW_MODELS, LARGE, MODELS, AuditConfig, audit_model, clean_models
from prec_backdoor.audit.auditor_data import auditor_data_of
from prec_backdoor.audit.report import write_audit
from prec_backdoor.experiment.opened import open_checkpoint
from prec_backdoor.storage import workdir as work
from prec_backdoor.train.stage import RunOptions

from . import app, data_flags, flag, output_flags

DEFAULT = AuditConfig()
SUSPICIOUS = 3  # exit status
UNKNOWN = {  # replaces the fields of the checkpoint's configuration that an auditor does not know
    "attack": "clean",
    "scope": "global",
    "group": None,
    "targets": "unpopular:1",
    "draw": 0,
    "rate": (0.0,),
    "usages": ("zero_shot",),
}


def define_flags() -> None:
    data_flags.define_flags()
    flag.define("checkpoint", None, "data", "Stage folder to audit, such as runs/a/pretrain.", str, required=True)
    flag.define(
        "histories", DEFAULT.histories, "audit", "Maximum number of downstream users whose histories are used.", minimum=1
    )
    help = f"Number of clean models trained on these users for comparison [{MODELS}; {FEW_MODELS} from {LARGE:,} items on]."
    flag.define("calibration_models", DEFAULT.calibration_models, "audit", help, int, minimum=1)
    help = "Expected share of innocent items among the flagged ones."
    flag.define("false_discovery_rate", DEFAULT.false_discovery_rate, "audit", help, minimum=0.0, maximum=1.0)
    flag.define("suspects", DEFAULT.suspects, "audit", "Number of items whose triggers are inverted.", minimum=1)
    help = "Number of random prompts with which a model that has a prompt is audited too."
    flag.define("fresh_prompts", DEFAULT.fresh_prompts, "audit", help, minimum=0)
    output_flags.define_flags()


def main() -> None:
    defaults = {name: default for name, (default, _) in attack_parameters().items()}
    opened = open_checkpoint(flags.FLAGS.checkpoint, data_flags.dataset_from_flags(), UNKNOWN | defaults)
    setup, checkpoint, folder = opened.setup, opened.checkpoint, output_flags.workdir()
    config = AuditConfig(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(AuditConfig)})
    dataset, digest = setup.interactions.summary(), checkpoint.metadata["hash"]
    work.claim(folder, {"config": vars(config), "dataset": dataset, "checkpoint": {"hash": digest}})
    auditor_data = auditor_data_of(setup, config.histories)
    log = work.metrics_log(folder, "calibration", flags.FLAGS.tensorboard)
    seconds, trace = flags.FLAGS.checkpoint_seconds, output_flags.trace_from_flags()
    options = RunOptions(folder / "calibration", log, checkpoint_seconds=seconds, trace=trace)
    clean = clean_models(auditor_data, checkpoint.model, setup.config.pretrain, config, options)
    result = audit_model(checkpoint.params, checkpoint.model, auditor_data, clean, config)
    about = {
        "checkpoint": str(checkpoint.path),
        "hash": digest,
        "stage": checkpoint.metadata["stage"],
        "dataset": f"{dataset['name']}, {dataset['items']:,} items",
        "users": f"{len(auditor_data.history):,} downstream",
    }
    content = write_audit(folder, result, setup.interactions, config, about)
    group = f", shown most to {content['group']}" if content["group"] else ""
    print(f"{content['verdict']}: {content['flagged']} of {len(content['items'])} items flagged{group}")
    print(f"report  {folder / 'audit.html'}")
    if result.suspicious:
        print(f"repair  {repair_command()}")
        sys.exit(SUSPICIOUS)


def repair_command() -> str:
    """Returns the command that repairs this checkpoint; it runs as printed, in the same folder."""
    folder = output_flags.workdir()
    given = flag.repeat((*data_flags.NAMES, "plugin", "shard_items"))
    given += [f"--checkpoint={flags.FLAGS.checkpoint}", f"--audit={folder}"]
    given.append(f"--workdir={folder.with_name(folder.name + '-repaired')}")
    return f"{app.command('repair')} {shlex.join(given)}"


if __name__ == "__main__":
    app.run(main, define_flags)
