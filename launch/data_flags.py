"""The flags that choose a dataset."""

from absl import flags

from prec_backdoor.data.columns import parse_columns
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.registry import DATASETS, load_dataset
from prec_backdoor.data.summary import one_line
from prec_backdoor.data.synthetic import PRESETS
from prec_backdoor.parallel import primary, primary_first

from . import flag

NAMES = ("dataset", "data_dir", "cache_dir", "behaviours", "on_bad_rows", "columns", "min_rating")
NAMES += ("synthetic_preset", "synthetic_users", "synthetic_items", "synthetic_seed")


def define_flags() -> None:
    """--dataset and its options."""
    names = ", ".join(name for name in ("synthetic", *DATASETS) if name != "recbole")
    flag.define("dataset", "synthetic", "data", f"Dataset: {names} or recbole:DIR.")
    flag.define("data_dir", None, "data", "Folder of raw files or of a prepared dataset; no network is used.", str)
    flag.define("cache_dir", None, "data", "Folder for downloads [$XDG_CACHE_HOME/prec_backdoor].", str)
    flag.define("behaviours", (), "data", "Behaviours that count as interactions in cikm: pv, fav, cart, buy [all].", str)
    flag.define(
        "on_bad_rows", "error", "data", "Malformed rows of raw files: stop, or skip and count them.", choices=("error", "skip")
    )
    help = "Columns of recbole:DIR, some of user=..,item=..,time=..,rating=..,category=..; time= keeps the order of the rows."
    flag.define("columns", (), "data", help, str)
    flag.define("min_rating", None, "data", "Minimum rating of an interaction in ml-100k, ml-1m and recbole:DIR [all].", float)
    flag.define("synthetic_preset", "small", "data", "Kind of synthetic data.", choices=list(PRESETS))
    flag.define("synthetic_users", None, "data", "Number of synthetic users [the preset's].", int, minimum=1)
    flag.define("synthetic_items", None, "data", "Number of synthetic items [the preset's].", int, minimum=1)
    flag.define("synthetic_seed", 0, "data", "Seed of the synthetic data.", minimum=0)


def dataset_from_flags() -> Interactions:
    """Returns the dataset that the flags choose and prints one line on it; raises a UserError as `load_dataset` does."""
    given = {name: flags.FLAGS[name].value for name in NAMES}
    given |= {"behaviours": given["behaviours"] or None, "columns": parse_columns(given["columns"])}
    with primary_first():  # it may download
        interactions = load_dataset(**given)
    if primary():
        print(one_line(interactions), flush=True)
    return interactions
