"""The flags of programs that open a checkpoint: the checkpoint, the data that it is used on."""

from collections.abc import Mapping
from typing import Any

from absl import flags

from prec_backdoor.data.align import LEAST_KNOWN
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.registry import DATASETS
from prec_backdoor.data.splits import users_beyond
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.opened import Catalogue, Opened, open_checkpoint
from prec_backdoor.parallel import primary
from prec_backdoor.storage import checkpoints

from . import data_flags, flag

LEAVE_OUT = "leave_out"  # what --new_items does by default


def define_flags(verb: str) -> None:
    """--checkpoint, the dataset and --least_known; `verb` says what the program does with the checkpoint."""
    flag.define("checkpoint", None, "data", f"Stage folder to {verb}, such as runs/a/pretrain.", str, required=True)
    data_flags.define_flags()
    help = "On data that the checkpoint was not made on: minimum share of interactions with items that it knows."
    flag.define("least_known", LEAST_KNOWN, "data", help, minimum=0.0, maximum=1.0)


def define_new_items() -> None:
    """--new_items, for a program that trains on own data."""
    help = "On own data, items that the checkpoint does not know: leave them out, or add rows from category and neighbours."
    flag.define("new_items", LEAVE_OUT, "data", help, choices=[LEAVE_OUT, "add"])


def opened_from_flags(changes: Mapping[str, Any] | None = None, catalogue: Catalogue = "known") -> Opened:
    """Returns --checkpoint, opened on the dataset of the flags; see `opened_on`."""
    return opened_on(flags.FLAGS.checkpoint, dataset_from_flags(), changes, catalogue)


def dataset_from_flags() -> Interactions:
    """Returns the dataset that the flags choose for --checkpoint; raises a UserError as `check_chosen` and `load_dataset`."""
    check_chosen()
    return data_flags.dataset_from_flags()


def check_chosen() -> None:
    """Raises a UserError if no flag chooses data and the checkpoint was made on others than the default."""
    if data_flags.is_chosen():
        return
    metadata = checkpoints.metadata_of(flags.FLAGS.checkpoint)
    name, imported = str(metadata["dataset"].get("name")), "source" in metadata
    if name != f"synthetic-{flags.FLAGS.synthetic_preset}" or imported:
        same = "" if imported else f"--dataset={name} or " if name in DATASETS else "the flags of that dataset or "
        raise UserError(f"--dataset: not given, and the checkpoint is of {name:.80}; give {same}--interactions=FILE of your own")


def opened_on(
    path: str, interactions: Interactions, changes: Mapping[str, Any] | None = None, catalogue: Catalogue = "known"
) -> Opened:
    """Returns the checkpoint, opened on these interactions, and prints how many of them it knows if they are a company's own.

    Raises:
      UserError: see `open_checkpoint`.
    """
    if "new_items" in flags.FLAGS and flags.FLAGS.new_items != LEAVE_OUT:
        catalogue = "widened"
    opened = open_checkpoint(path, interactions, changes, flags.FLAGS.least_known, catalogue)
    if opened.aligned and primary():
        print(opened.aligned.describe(), flush=True)
    elif data_flags.is_own() and primary():
        print(
            f"same data    the checkpoint was made on this dataset: its seed {opened.setup.seed} draws the downstream users",
            flush=True,
        )
    return opened


def print_ranked(opened: Opened) -> None:
    """Prints for how many users of own data the oldest items are ranked, if there are any such users."""
    beyond = users_beyond(opened.setup.interactions, opened.setup.model.max_length) if opened.aligned else 0
    if beyond and primary():
        print(f"ranked       the oldest items of {beyond:,} users too, who have more than there is room for", flush=True)
