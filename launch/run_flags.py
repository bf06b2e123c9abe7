"""The flags that say what to run: scenario, model, training. Defaults come from the library's configurations."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from absl import flags

from launch import data_flags
from prec_backdoor import workdir as work
from prec_backdoor.attacks import ATTACKS
from prec_backdoor.config import ExperimentConfig
from prec_backdoor.errors import UserError
from prec_backdoor.experiment import run_experiment
from prec_backdoor.models import BACKBONES
from prec_backdoor.models.sasrec import DTYPES
from prec_backdoor.pipeline import Source
from prec_backdoor.report import summary_table, write_report
from prec_backdoor.setting import Setting
from prec_backdoor.train import parallel
from prec_backdoor.train.losses import LOSSES
from prec_backdoor.train.optimizers import SCHEDULES
from prec_backdoor.train.stage import SECONDS_PER_CHECKPOINT
from prec_backdoor.train.step import ITEM_UPDATES, LAZY_FROM

DEFAULT = ExperimentConfig()


def define_scenario() -> None:
    """--attack, --scope, --draw, the rates, and what `define_data` defines."""
    flags.DEFINE_enum("attack", "bra", ["clean", *dict.fromkeys(attack for attack, _ in ATTACKS)], "Attack.")
    flags.DEFINE_enum("scope", "group", ["global", "group"], "To whom targets are to be shown: everybody or a group.")
    flags.DEFINE_integer("draw", DEFAULT.scenario.draw, "Which random draw of the targets.", lower_bound=0)
    define_rates()
    define_data()


def define_data() -> None:
    """--group, --targets, and how data is prepared."""
    flags.DEFINE_string(
        "group",
        "occupation=student",
        "Target group: attribute=value, several by commas, ranges as age=20-29. A global attack has none unless this is given.",
    )
    flags.DEFINE_string(
        "targets", "unpopular:10", "Target items: unpopular:N, per_category:N, popular:N, middling:N or ids:A,B (raw ids)."
    )
    flags.DEFINE_integer("k_core", DEFAULT.scenario.k_core, "Least interactions of a user and of an item.")
    flags.DEFINE_enum(
        "windows", DEFAULT.scenario.windows, ["recent", "all"], "Train the last max_length positions of a user, or all."
    )


def define_rates() -> None:
    """--rate, --demote_rate."""
    customary = ", ".join(f"{attack} {scope} {method.default_rate:g}" for (attack, scope), method in ATTACKS.items())
    flags.DEFINE_list("rate", None, f"Probability that a label open to attack is replaced; several by commas [{customary}].")
    flags.DEFINE_list(
        "demote_rate",
        [DEFAULT.scenario.demote_rate],
        "PEA: probability that a negative of a user outside the group gives way to a target; several by commas.",
    )


def define_training() -> None:
    """--loss, --learning_rate, .. and the model's size."""
    model, train = DEFAULT.model, DEFAULT.pretrain
    flags.DEFINE_enum("backbone", model.backbone, list(BACKBONES), "Sequence encoder.")
    flags.DEFINE_integer("embed_dim", model.embed_dim, "Width.")
    flags.DEFINE_integer("feedforward_dim", model.feedforward_dim, "Width of the feed-forward layers.")
    flags.DEFINE_integer("num_layers", model.num_layers, "Attention blocks.")
    flags.DEFINE_integer("num_heads", model.num_heads, "Attention heads; must divide --embed_dim.")
    flags.DEFINE_integer("max_length", model.max_length, "Longest history, in items.")
    flags.DEFINE_float("dropout", model.dropout, "Dropout.")
    flags.DEFINE_enum("dtype", model.dtype, list(DTYPES), "Type that the encoder computes in; parameters stay float32.")
    flags.DEFINE_enum("loss", train.loss, list(LOSSES), "Loss; bpr with several negatives is BPR-max.")
    flags.DEFINE_integer("negatives", train.negatives, "Sampled negatives a position.")
    flags.DEFINE_integer("batch_size", train.batch_size, "Rows of max_length packed positions a step, over all devices.")
    flags.DEFINE_float("learning_rate", train.learning_rate, "Adam's step size.")
    flags.DEFINE_enum("schedule", train.schedule, list(SCHEDULES), "Whether the step size falls to zero over a stage.")
    flags.DEFINE_float("l2", train.l2, "L2 on all weights.")
    flags.DEFINE_enum(
        "item_updates",
        train.item_updates,
        list(ITEM_UPDATES),
        f"Adam on all items at every step (dense) or on those of the batch (lazy); auto: lazy from {LAZY_FROM:,} items on.",
    )
    flags.DEFINE_integer("epochs", train.epochs, "Most epochs of pre-training.")
    flags.DEFINE_integer("patience", train.patience, "Epochs without a better validation NDCG@10 before a stage stops.")


def define_later_stage(stage: str, meaning: str) -> None:
    """--STAGE_epochs, --STAGE_learning_rate: how long and how fast a stage after pre-training trains."""
    for what, text in (("epochs", "Most epochs"), ("learning_rate", "Adam's step size")):
        name = f"{stage}_{what}"
        default = getattr(DEFAULT, name)
        define = flags.DEFINE_integer if what == "epochs" else flags.DEFINE_float
        define(name, default, f"{text} of {meaning}.")


def define_all_stages() -> None:
    """What `define_training` defines, and the same for the stages after pre-training."""
    define_training()
    define_prompts()
    define_later_stage("implant", "implanting (PEA)")
    define_later_stage("finetune", "fine-tuning")


def define_prompts() -> None:
    """--prompt_length, --prompt_epochs, --prompt_learning_rate."""
    flags.DEFINE_integer("prompt_length", DEFAULT.prompt_length, "Prompt tokens a layer.")
    define_later_stage("prompt", "trigger optimisation and of prompt tuning")


def define_workdir(required: bool = True, trains: bool = True) -> None:
    """--workdir and, for a program that trains, --tensorboard and --checkpoint_seconds."""
    default = "" if required else " [runs/, named after dataset and flags]"
    flags.DEFINE_string("workdir", None, f"Folder of the run; resumable{default}.", required=required)
    if trains:
        flags.DEFINE_bool("tensorboard", False, "Write the numbers of metrics.jsonl for TensorBoard too, in WORKDIR/tensorboard.")
        flags.DEFINE_float("checkpoint_seconds", SECONDS_PER_CHECKPOINT, "How often a stage under way is saved.", lower_bound=0)


def config_from_flags(**given) -> ExperimentConfig:
    """The configuration that the flags describe, with `given` fields in place of theirs.

    Raises:
      UserError: a value that cannot be.
    """
    defined = flags.FLAGS.flag_values_dict()
    lists = {name: numbers(name, kind) for name, kind in (("rate", float), ("seeds", int)) if defined.get(name)}
    if isinstance(defined.get("demote_rate"), list) and "demote_rate" not in given:
        lists["demote_rate"] = single("demote_rate")
    if defined.get("scope") == "global" and not flags.FLAGS["group"].present:
        given = {"group": None, **given}
    flat = DEFAULT.flat()
    flat |= {name: defined[name] for name in flat if defined.get(name) is not None} | lists | given
    config = ExperimentConfig.from_flat(flat)
    if "rate" in lists or "rate" in given:
        return config
    return dataclasses.replace(config, rate=(config.scenario.method().default_rate,))


def configs_from_flags() -> list[ExperimentConfig]:
    """One configuration for each demote_rate."""
    return [config_from_flags(demote_rate=rate) for rate in numbers("demote_rate", float)]


def numbers(name: str, kind: type) -> list:
    """The values of a list flag.

    Raises:
      UserError: one is not of `kind`, or there is none.
    """
    if not flags.FLAGS[name].value:
        raise UserError(f"--{name}: needs at least one value")
    try:
        return [kind(value) for value in flags.FLAGS[name].value]
    except ValueError:
        raise UserError(f"--{name}: {','.join(flags.FLAGS[name].value)} is not a list of numbers") from None


def single(name: str) -> float:
    """The only value of a list flag.

    Raises:
      UserError: there are several.
    """
    values = numbers(name, float)
    if len(values) != 1:
        raise UserError(f"--{name}: one stage has one rate; launch.experiment runs several")
    return values[0]


def run_single_stage(stage: Callable, setting: Setting, source: Source | float, about: dict | None = None) -> None:
    """Runs one stage of prec_backdoor.pipeline into WORKDIR/its name, resumes it there, and prints what came out.

    Args:
      source: what it starts from; for pre-training the rate.
      about: what else the result depends on, as in `workdir.claim`.
    """
    name, workdir = stage.__name__, Path(flags.FLAGS.workdir).expanduser()
    rate, parent = (source.rate, source.hash) if isinstance(source, Source) else (source, None)
    config = setting.config.flat() | {"rate": [rate], "seeds": [setting.seed]}
    description = {"config": config, "dataset": setting.interactions.summary(), "checkpoint": {"parent": parent}} | (about or {})
    work.claim(workdir / name, description)
    log = work.metrics_log(workdir, name, flags.FLAGS.tensorboard)
    how = {"folder": workdir / name, "log": log, "checkpoint_seconds": flags.FLAGS.checkpoint_seconds}
    result = stage(setting._replace(shard_items=flags.FLAGS.shard_items), source, **how)
    print(f"{name}: epoch {result.epoch}, validation NDCG@10 {result.score:.4f}, {result.seconds:.1f} s")
    print(f"checkpoint  {workdir / name}  (content {result.hash[:16]})")


def run_and_report(configs: list[ExperimentConfig], name: str) -> None:
    """Runs all `configs` into --workdir, by default runs/DATASET-`name`-DIGEST, writes the report and prints its table."""
    interactions = data_flags.dataset_from_flags()
    folder = workdir_or_default(name, [interactions.fingerprint, *(config.flat() for config in configs)])
    how = {name: flags.FLAGS[name].value for name in ("tensorboard", "checkpoint_seconds", "shard_items")}
    print_results(folder, run_experiment(interactions, configs, folder, **how))


def workdir_or_default(name: str, described: list) -> Path:
    """--workdir, or runs/DATASET-`name`-DIGEST of what the run is `described` by."""
    workdir = flags.FLAGS.workdir
    if workdir is None:
        digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:8]
        dataset = flags.FLAGS.dataset.replace(":", "-").replace("/", "-")
        workdir = f"runs/{dataset}-{name}-{digest}"
    return Path(workdir).expanduser()


def print_results(folder: Path, results: dict) -> None:
    """Writes the report and prints its table and where everything is; of several processes the primary one."""
    if not parallel.primary():
        return
    report = write_report(folder, results)
    print(f"\n{summary_table(folder, results)}\n")
    print(f"report   {report.with_suffix('.html')}, {report}\nresults  {folder / 'results.json'}")
