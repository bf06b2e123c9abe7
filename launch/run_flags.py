"""The flags that say what to run: scenario, model, training. Defaults come from the library's configurations."""

from collections.abc import Callable
from pathlib import Path

from absl import flags

from prec_backdoor import workdir as work
from prec_backdoor.attacks import ATTACKS
from prec_backdoor.config import ExperimentConfig
from prec_backdoor.errors import UserError
from prec_backdoor.models import BACKBONES
from prec_backdoor.models.sasrec import DTYPES
from prec_backdoor.report import summary_table, write_report
from prec_backdoor.setting import Setting
from prec_backdoor.train.losses import LOSSES
from prec_backdoor.train.optimizers import SCHEDULES

DEFAULT = ExperimentConfig()


def define_scenario() -> None:
    """--attack, --scope, --group, --targets, --rate, and how data is prepared."""
    flags.DEFINE_enum("attack", "bra", ["clean", *dict.fromkeys(attack for attack, _ in ATTACKS)], "Attack.")
    flags.DEFINE_enum("scope", "group", ["global", "group"], "To whom targets are to be shown: everybody or a group.")
    flags.DEFINE_string(
        "group",
        "occupation=student",
        "Target group: attribute=value, several by commas, ranges as age=20-29. A global attack has none unless this is given.",
    )
    flags.DEFINE_string("targets", "unpopular:10", "Target items: unpopular:N, per_category:N or ids:A,B (raw ids).")
    flags.DEFINE_list("rate", list(DEFAULT.rate), "Probability that a label open to attack is replaced; several by commas.")
    flags.DEFINE_integer("k_core", DEFAULT.scenario.k_core, "Least interactions of a user and of an item.")
    flags.DEFINE_enum(
        "windows", DEFAULT.scenario.windows, ["recent", "all"], "Train the last max_length positions of a user, or all."
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
    flags.DEFINE_integer("epochs", train.epochs, "Most epochs of pre-training.")
    flags.DEFINE_integer("patience", train.patience, "Epochs without a better validation NDCG@10 before a stage stops.")


def define_finetuning() -> None:
    """--finetune_epochs, --finetune_learning_rate."""
    flags.DEFINE_integer("finetune_epochs", DEFAULT.finetune_epochs, "Most epochs of fine-tuning.")
    flags.DEFINE_float("finetune_learning_rate", DEFAULT.finetune_learning_rate, "Adam's step size in fine-tuning.")


def define_workdir() -> None:
    """--workdir of the programs that run one stage."""
    flags.DEFINE_string("workdir", None, "Folder of the run; resumable.", required=True)


def config_from_flags(**given) -> ExperimentConfig:
    """The configuration that the flags describe, with `given` fields in place of theirs.

    Raises:
      UserError: a value that cannot be.
    """
    defined = flags.FLAGS.flag_values_dict()
    lists = {name: _numbers(name, kind) for name, kind in (("rate", float), ("seeds", int)) if name in defined}
    if defined.get("scope") == "global" and not flags.FLAGS["group"].present:
        given = {"group": None, **given}
    flat = DEFAULT.flat()
    return ExperimentConfig.from_flat(flat | {name: defined[name] for name in flat if name in defined} | lists | given)


def run_single_stage(name: str, setting: Setting, rate: float, run: Callable, parent: str | None = None) -> None:
    """Runs one stage into WORKDIR/name, resumes it there, and prints what came out.

    Args:
      run: (folder, log) -> StageResult.
      parent: content hash of the checkpoint that the stage starts from.
    """
    workdir = Path(flags.FLAGS.workdir).expanduser()
    config = setting.config.flat() | {"rate": [rate], "seeds": [setting.seed]}
    description = {"config": config, "dataset": setting.interactions.summary(), "checkpoint": {"parent": parent}}
    work.claim(workdir / name, description)
    result = run(workdir / name, work.metrics_log(workdir, name))
    print(f"{name}: best epoch {result.epoch}, validation NDCG@10 {result.score:.4f}, {result.seconds:.1f} s")
    print(f"checkpoint  {workdir / name}  (content {result.hash[:16]})")


def print_results(folder: Path, results: dict) -> None:
    """Writes the report and prints its table and where everything is."""
    report = write_report(folder, results)
    print(f"\n{summary_table(folder, results)}\n\nreport   {report}\nresults  {folder / 'results.json'}")


def _numbers(name: str, kind: type) -> list:
    try:
        return [kind(value) for value in flags.FLAGS[name].value]
    except ValueError:
        raise UserError(f"--{name}: {','.join(flags.FLAGS[name].value)} is not a list of numbers") from None
