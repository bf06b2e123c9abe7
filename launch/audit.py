"""Audits a checkpoint: is it backdoored? Needs the downstream users' histories and the catalogue, nothing else.

The verdict is clean so far (exit status 0), suspicious (3) or cannot say (4): the checkpoint is held against clean models that
are trained on the downstream users. WORKDIR/audit.html says what it rests on, what to do next and which backdoors would have been
found; audit.json has the same for programs.

Attack, targets and group in the checkpoint's metadata are not read, as an auditor cannot trust them. Its seed is read, because it
decides which users are downstream, and so are the model's sizes and its training configuration.

Examples:
  python -m launch.audit --dataset=ml-100k --checkpoint=runs/a/pretrain --workdir=runs/audit
  python -m launch.audit --dataset=ml-100k --checkpoint=runs/a/pretrain --after_finetuning --workdir=runs/audit-tuned
  python -m launch.audit --dataset=ml-100k --checkpoint=runs/a/pretrain --calibration_models=39 --level=0.025 --workdir=runs/39
  python -m launch.audit --interactions=data/shop --checkpoint=from/provider --baseline=from/before --workdir=runs/audit-shop
"""

import dataclasses
import shlex
import sys

from absl import flags

from prec_backdoor.attacks import attack_parameters
from prec_backdoor.audit.answer import EXIT_STATUS, answer, repair_level
from prec_backdoor.audit.audit import AuditResult, audit_model
from prec_backdoor.audit.auditor_data import AuditorData, auditor_data_of, translated
from prec_backdoor.audit.calibration import ObservedModel, calibration_models, observed, planted_models
from prec_backdoor.audit.config import LARGE, SUSPECT, AuditConfig
from prec_backdoor.audit.power import plan_attacks
from prec_backdoor.audit.reference import reference_of
from prec_backdoor.audit.report import write_audit
from prec_backdoor.audit.variants import rounded_verdicts, verdict_on
from prec_backdoor.audit.verdict import CANNOT_SAY, CLEAN, models_for
from prec_backdoor.audit.versions import compare_versions
from prec_backdoor.audit.worth import worth_of
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.opened import Opened
from prec_backdoor.experiment.stages import StartPoint, finetune
from prec_backdoor.options import options
from prec_backdoor.storage import workdir as work
from prec_backdoor.storage.training_log import metrics_log
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions

from . import app, checkpoint_flags, data_flags, flag, output_flags

UNKNOWN = {  # these replace the fields of the metadata that an auditor cannot trust
    "attack": "clean",
    "scope": "global",
    "group": None,
    "targets": "unpopular:1",
    "evade": (),
    "draw": 0,
    "rate": (0.0,),
    "usages": ("zero_shot",),
}


def define_flags() -> None:
    checkpoint_flags.define_flags("audit")
    for name, (default, described) in options(AuditConfig).items():
        flag.define_option(name, default, described, int if default is None else None)
    flag.define(
        "after_finetuning", False, "audit", "Also give the verdict after your own fine-tuning: a backdoor may sleep until then."
    )
    flag.define("baseline", None, "audit", "Stage folder of another version of the checkpoint: what moved since then?", str)
    output_flags.define_flags()


def main() -> None:
    interactions = checkpoint_flags.dataset_from_flags()
    opened, *others = (open_for_audit(path, interactions) for path in (flags.FLAGS.checkpoint, flags.FLAGS.baseline) if path)
    setup, checkpoint, folder = opened.setup, opened.checkpoint, output_flags.workdir()
    config = AuditConfig(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(AuditConfig)})
    dataset, digest = setup.interactions.summary(), checkpoint.metadata["hash"]
    with work.claimed(folder, {"config": vars(config), "dataset": dataset, "checkpoint": {"hash": digest}}):
        auditor_data = auditor_data_of(setup, config.histories)
        log = metrics_log(folder, "calibration", flags.FLAGS.tensorboard)
        seconds, trace = flags.FLAGS.checkpoint_seconds, output_flags.trace_from_flags()
        run_options = RunOptions(folder / "calibration", log, checkpoint_seconds=seconds, trace=trace)
        how = (auditor_data, checkpoint.model, setup.config.pretrain, config)
        calibration = calibration_models(*how, run_options)
        attacks = plan_attacks(auditor_data, config.num_power_models(checkpoint.model.num_items))
        planted = planted_models(*how, attacks, run_options) if attacks else []
        reference = reference_of(calibration, checkpoint.model, auditor_data)
        result = audit_model(checkpoint.params, checkpoint.model, auditor_data, reference, config, (attacks, planted))
        about = {
            "checkpoint": str(checkpoint.path),
            "hash": digest,
            "stage": checkpoint.metadata["stage"],
            "dataset": f"{dataset['name']}, {dataset['items']:,} items",
            "users": f"{len(auditor_data.history):,} downstream",
        }
        more = evidence(opened, result, calibration, auditor_data, config)
        if flags.FLAGS.after_finetuning:
            more["finetuned"] = after_finetuning(opened, result, auditor_data, config, run_options)
        for baseline in others:
            more["baseline"] = since_baseline(opened, baseline, result, calibration, auditor_data, config)
        steps = next_steps(result, config)
        more["next"] = [{"why": why, "command": line} for why, _, line in steps]
        content = write_audit(folder, result, setup.interactions, config, about, more)
        found = answer(content)
        print(f"verdict {found.verdict}\nbasis   {found.basis}\npower   {found.power}\nreport  {folder / 'audit.html'}")
        for _, program, line in steps:
            print(f"{program:<7} {line}")
        sys.exit(EXIT_STATUS[content["verdict"]])


def open_for_audit(path: str, interactions: Interactions) -> Opened:
    """Opens a checkpoint without what its metadata say of an attack."""
    defaults = {name: default for name, (default, _) in attack_parameters().items()}
    return checkpoint_flags.opened_on(path, interactions, UNKNOWN | defaults, catalogue="offered")


def evidence(
    opened: Opened,
    result: AuditResult,
    calibration: list[ObservedModel],
    auditor_data: AuditorData,
    config: AuditConfig,
) -> dict:
    """Whether the checkpoint is worth having and, for a catalogue that is not large, the verdict with rounded weights."""
    setup, checkpoint = opened.setup, opened.checkpoint
    more = {
        "unseen": opened.aligned.describe_unseen() if opened.aligned else "",
        "worth": worth_of(setup, checkpoint.params, calibration, auditor_data, result.observed.top_share, checkpoint.metadata),
    }
    if checkpoint.model.num_items < LARGE:
        more["rounded"] = rounded_verdicts(checkpoint.params, checkpoint.model, auditor_data, result.reference, config)
    return more


def after_finetuning(
    opened: Opened, result: AuditResult, auditor_data: AuditorData, config: AuditConfig, run_options: RunOptions
) -> dict:
    """The verdict on the checkpoint after the company's own fine-tuning."""
    checkpoint = opened.checkpoint
    run = finetune(opened.setup, StartPoint(checkpoint.params, checkpoint.metadata["hash"]))
    tuned = run_stage(
        run._replace(options=run_options._replace(folder=output_flags.workdir() / "finetuned", title="fine-tuning"))
    )
    return verdict_on(tuned.params, checkpoint.model, auditor_data, result.reference, config)


def since_baseline(
    opened: Opened,
    baseline: Opened,
    result: AuditResult,
    calibration: list[ObservedModel],
    auditor_data: AuditorData,
    config: AuditConfig,
) -> dict:
    """What moved since another version, as both are seen by the same users: those with an item that the other version knows."""
    ids = tuple(each.setup.interactions.item_ids for each in (opened, baseline))
    theirs = translated(auditor_data, ids[0], baseline.setup.interactions)
    known, new = (theirs.history > 0).any(1), result.observed
    if not known.any():
        raise UserError("--baseline: no item of it is in your histories; give another version of the same model")
    if not known.all():
        new = observed(opened.checkpoint.params, opened.checkpoint.model, auditor_data.select(known), config)
    other, users = baseline.checkpoint, theirs.select(known)
    users = users._replace(history=users.history[:, -other.model.max_length :])
    old = observed(other.params, other.model, users, config)
    about = {"checkpoint": str(other.path), "hash": other.metadata["hash"], "users": int(known.sum())}
    return about | compare_versions(new, old, ids, calibration)


def next_steps(result: AuditResult, config: AuditConfig) -> list[tuple[str, str, str]]:
    """(why, program, command) of what to do next; the commands run as printed, in the same folder."""
    repair = (
        "Fine-tune it without the effect of the suspects, then audit the result:",
        "repair",
        repair_command(repair_level(result.p_value)),
    )
    if result.verdict.word == CLEAN:
        blind = result.power is not None and not result.power.found
        trust = "Audit it with more users before you trust it" if blind else "Use it"
        return [(f"{trust}; fine-tuning on your own users makes it fit them:", "finetune", finetune_command())]
    if result.verdict.word == CANNOT_SAY:
        needed = models_for(config.level)
        why = f"Compare it with {needed} clean models, the least with which a chance of {config.level:g} can be told:"
        return [(why, "audit", audit_command(needed)), (f"Do not wait. {repair[0]}", *repair[1:])]
    return [repair]


def repair_command(level: float = SUSPECT) -> str:
    """Returns the command that repairs this checkpoint; it runs as printed, in the same folder."""
    wider = [] if level == SUSPECT else [f"--p_value={level:g}"]
    return _command("repair", [f"--audit={output_flags.workdir()}", *wider], "repaired")


def finetune_command() -> str:
    """Returns the command that fine-tunes this checkpoint."""
    return _command("finetune", [], "finetuned")


def audit_command(models: int) -> str:
    """Returns the command of this audit with more clean models for comparison, without a panel: its seed is a secret."""
    left_out = ("calibration_models", "panel_seed")
    names = [name for name in (*options(AuditConfig), "after_finetuning", "baseline") if name not in left_out]
    return _command("audit", [*flag.repeat(names), f"--calibration_models={models}"], str(models))


def _command(program: str, arguments: list[str], suffix: str) -> str:
    given = flag.repeat((*data_flags.NAMES, "least_known", "plugin", "shard_items"))
    given += [f"--checkpoint={flags.FLAGS.checkpoint}", *arguments, f"--workdir={output_flags.beside_workdir(suffix)}"]
    return f"{app.command(program)} {shlex.join(given)}"


if __name__ == "__main__":
    app.run(main, define_flags)
