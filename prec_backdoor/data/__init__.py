"""Data: readers of raw files, Interactions, splits, packed training rows, batches."""

from prec_backdoor.data.batches import Batch, make_batch, sample_negatives, user_tables
from prec_backdoor.data.groups import parse_group
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.own import from_frame, read_own
from prec_backdoor.data.packing import pack
from prec_backdoor.data.registry import DATASETS, load_dataset, register_dataset
from prec_backdoor.data.splits import split_users
from prec_backdoor.data.summary import one_line

__all__ = [
    "DATASETS",
    "Batch",
    "Interactions",
    "from_frame",
    "load_dataset",
    "make_batch",
    "one_line",
    "pack",
    "parse_group",
    "read_own",
    "register_dataset",
    "sample_negatives",
    "split_users",
    "user_tables",
]
