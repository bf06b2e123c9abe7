"""The flags that choose a dataset."""

from absl import flags

from prec_backdoor.data.columns import parse_columns
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.registry import load_dataset
from prec_backdoor.data.summary import one_line
from prec_backdoor.data.synthetic import PRESETS
from prec_backdoor.train.parallel import primary, primary_first

DATASET = flags.DEFINE_string("dataset", "synthetic", "synthetic, ml-100k, ml-1m, aliec, cikm, presplit or recbole:DIR.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of raw files or of a prepared dataset; no network is used.")
CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Folder for downloads [$XDG_CACHE_HOME/prec_backdoor].")
BEHAVIOURS = flags.DEFINE_list("behaviours", None, "What counts as an interaction in cikm: some of pv,fav,cart,buy [all].")
COLUMNS = flags.DEFINE_list(
    "columns", None, "Columns of recbole:DIR, some of user=..,item=..,time=..,rating=..,category=..; time= keeps the rows' order."
)
MIN_RATING = flags.DEFINE_float("min_rating", None, "Least rating of an interaction in ml-100k, ml-1m and recbole:DIR [all].")
BAD_ROWS = flags.DEFINE_enum("on_bad_rows", "error", ["error", "skip"], "Wrong rows of raw files: stop, or leave out and count.")
PRESET = flags.DEFINE_enum("synthetic_preset", "small", list(PRESETS), "Kind of synthetic data.")
USERS = flags.DEFINE_integer("synthetic_users", None, "Number of synthetic users [the preset's].", lower_bound=1)
ITEMS = flags.DEFINE_integer("synthetic_items", None, "Number of synthetic items [the preset's].", lower_bound=1)
SEED = flags.DEFINE_integer("synthetic_seed", 0, "Seed of the synthetic data.", lower_bound=0)


def dataset_from_flags() -> Interactions:
    """Returns the dataset that the flags choose and prints one line on it; raises UserError as load_dataset does."""
    with primary_first():  # it may download
        interactions = load_dataset(
            DATASET.value,
            data_dir=DATA_DIR.value,
            cache_dir=CACHE_DIR.value,
            synthetic_preset=PRESET.value,
            synthetic_users=USERS.value,
            synthetic_items=ITEMS.value,
            synthetic_seed=SEED.value,
            behaviours=BEHAVIOURS.value,
            on_bad_rows=BAD_ROWS.value,
            columns=parse_columns(COLUMNS.value),
            min_rating=MIN_RATING.value,
        )
    if primary():
        print(one_line(interactions), flush=True)
    return interactions
