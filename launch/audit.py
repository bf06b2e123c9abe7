"""Audits a checkpoint: is it backdoored? Needs the downstream users' histories and the catalogue, nothing else.

Exits with 0 for a clean verdict and with 3 for a suspicious one; WORKDIR/audit.json and audit.html give the reasons. Attack,
targets and group in the checkpoint's metadata are not read, as an auditor cannot trust them. Its seed is read, because it decides
which users are downstream, and so are the model's sizes and its training configuration.

Examples:
  python -m launch.audit --dataset=ml-100k --checkpoint=runs/a/pretrain --workdir=runs/audit
  python -m launch.audit --dataset=ml-100k --checkpoint=runs/a/pretrain --calibration_models=8 --workdir=runs/audit-8
  python -m launch.audit --interactions=data/shop --checkpoint=from/provider --false_discovery_rate=0.01 --workdir=runs/audit-shop
"""

import dataclasses
import shlex
import sys

from absl import flags

from prec_backdoor.attacks import attack_parameters
from prec_backdoor.audit.audit import audit_model
from prec_backdoor.audit.auditor_data import auditor_data_of
from prec_backdoor.audit.calibration import calibration_models
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.report import write_audit
from prec_backdoor.options import options
from prec_backdoor.storage import workdir as work
from prec_backdoor.train.stage import RunOptions

from . import app, checkpoint_flags, data_flags, flag, output_flags

SUSPICIOUS = 3  # exit status
UNKNOWN = {  # these replace the fields of the metadata that an auditor cannot trust
    "attack": "clean",
    "scope": "global",
    "group": None,
    "targets": "unpopular:1",
    "draw": 0,
    "rate": (0.0,),
    "usages": ("zero_shot",),
}


def define_flags() -> None:
    checkpoint_flags.define_flags("audit")
    for name, (default, described) in options(AuditConfig).items():
        flag.define_option(name, default, described, int if default is None else None)
    output_flags.define_flags()


def main() -> None:
    defaults = {name: default for name, (default, _) in attack_parameters().items()}
    opened = checkpoint_flags.opened_from_flags(UNKNOWN | defaults)
    setup, checkpoint, folder = opened.setup, opened.checkpoint, output_flags.workdir()
    config = AuditConfig(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(AuditConfig)})
    dataset, digest = setup.interactions.summary(), checkpoint.metadata["hash"]
    with work.claimed(folder, {"config": vars(config), "dataset": dataset, "checkpoint": {"hash": digest}}):
        auditor_data = auditor_data_of(setup, config.histories)
        log = work.metrics_log(folder, "calibration", flags.FLAGS.tensorboard)
        seconds, trace = flags.FLAGS.checkpoint_seconds, output_flags.trace_from_flags()
        run_options = RunOptions(folder / "calibration", log, checkpoint_seconds=seconds, trace=trace)
        calibration = calibration_models(auditor_data, checkpoint.model, setup.config.pretrain, config, run_options)
        result = audit_model(checkpoint.params, checkpoint.model, auditor_data, calibration, config)
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
    given = flag.repeat((*data_flags.NAMES, "least_known", "plugin", "shard_items"))
    given += [f"--checkpoint={flags.FLAGS.checkpoint}", f"--audit={folder}"]
    given.append(f"--workdir={folder.with_name(folder.name + '-repaired')}")
    return f"{app.command('repair')} {shlex.join(given)}"


if __name__ == "__main__":
    app.run(main, define_flags)
