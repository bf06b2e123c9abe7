"""The flags that choose a dataset."""

from collections import Counter

from absl import flags

from prec_backdoor.data.columns import parse_columns
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.own import read_own
from prec_backdoor.data.registry import DATASETS, expand, load_dataset, with_skipped
from prec_backdoor.data.summary import one_line, overview
from prec_backdoor.data.synthetic import PRESETS
from prec_backdoor.errors import UserError
from prec_backdoor.parallel import primary, primary_first

from . import flag

NAMES = ("dataset", "data_dir", "cache_dir", "behaviours", "on_bad_rows", "columns", "min_rating")
NAMES += ("synthetic_preset", "synthetic_users", "synthetic_items", "synthetic_seed")
OWN = ("interactions", "profiles", "catalogue")  # flags of a company's own data
NAMES += OWN
_SHARED = ("cache_dir", "on_bad_rows", "columns", "min_rating")  # flags of datasets that go with own data


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
    help = "Your interactions instead of a dataset: CSV, TSV, Parquet, JSON lines, .inter, or a folder of launch.prepare_data."
    flag.define("interactions", None, "data", help, str)
    flag.define("profiles", None, "data", "With --interactions: file with a row a user and columns of attributes.", str)
    flag.define("catalogue", None, "data", "With --interactions: file with a row an item, its title and category.", str)
    help = "Columns of --interactions or recbole:DIR, some of user=..,item=..,time=..,rating=..,category=..,title=.. "
    flag.define("columns", (), "data", help + "[by their names]; time= keeps the order of the rows.", str)
    help = "Minimum rating of an interaction in --interactions, ml-100k, ml-1m and recbole:DIR [all]."
    flag.define("min_rating", None, "data", help, float)
    flag.define("synthetic_preset", "small", "data", "Kind of synthetic data.", choices=list(PRESETS))
    flag.define("synthetic_users", None, "data", "Number of synthetic users [the preset's].", int, minimum=1)
    flag.define("synthetic_items", None, "data", "Number of synthetic items [the preset's].", int, minimum=1)
    flag.define("synthetic_seed", 0, "data", "Seed of the synthetic data.", minimum=0)


def dataset_from_flags() -> Interactions:
    """Returns the dataset that the flags choose and prints what was read; raises a UserError as `load_dataset` does."""
    if is_own():
        interactions = _own_from_flags()
        shown = overview(interactions)
    else:
        given = {name: flags.FLAGS[name].value for name in NAMES if name not in OWN}
        given |= {"behaviours": given["behaviours"] or None, "columns": parse_columns(given["columns"])}
        with primary_first():  # it may download
            interactions = load_dataset(**given)
        shown = one_line(interactions)
    if primary():
        print(shown, flush=True)
    return interactions


def is_own() -> bool:
    """Returns whether the data are a company's own.

    Raises:
      UserError: flags that choose another dataset, or own tables without --interactions.
    """
    if not flags.FLAGS.interactions:
        for name in OWN:
            if flag.is_given(name):
                raise UserError(f"--{name}: needs --interactions=FILE; give the table of interactions too")
        return False
    for name in NAMES:
        if flag.is_given(name) and name not in (*OWN, *_SHARED):
            raise UserError(
                f"--{name}: chooses another dataset than --interactions={flags.FLAGS.interactions}; leave one of them out"
            )
    return True


def is_chosen() -> bool:
    """Returns whether a flag chooses data; the default, synthetic data, is meant only where a program makes a model of them."""
    return any(flag.is_given(name) for name in NAMES if name not in _SHARED)


def dataset_name() -> str:
    """Returns a name of the dataset for a folder."""
    return flags.FLAGS.dataset.replace(":", "-").replace("/", "-") if not is_own() else "own"


def _own_from_flags() -> Interactions:
    paths = [expand(path) if (path := flags.FLAGS[name].value) else None for name in OWN]
    skipped = Counter() if flags.FLAGS.on_bad_rows == "skip" else None
    columns, min_rating = parse_columns(flags.FLAGS.columns), flags.FLAGS.min_rating
    return with_skipped(read_own(paths[0], columns, *paths[1:], min_rating, skipped), skipped)
