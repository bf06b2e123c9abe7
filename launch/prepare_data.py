"""Turns raw files, a download or synthetic data into a dataset folder that every program takes as --data_dir.

aliec, cikm and presplit need their raw files in --data_dir, and --output elsewhere; without it the cache is used. Raw files may
be larger than memory: they are read in batches. Prints one line on the dataset, counts of
rows read and dropped with reasons, and the values of each attribute. The folder of --interactions=FILE is read as
--interactions=FOLDER.

Examples:
  python -m launch.prepare_data --dataset=ml-100k
  python -m launch.prepare_data --dataset=aliec --data_dir=raw/aliec --output=data/aliec
  python -m launch.prepare_data --dataset=recbole:raw/steam --output=data/steam
  python -m launch.prepare_data --interactions=events.csv --columns=user=uid,item=sku,time=ts --output=data/shop
"""

from pathlib import Path

import numpy as np
from absl import flags

from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.registry import cache_folder, expand
from prec_backdoor.errors import UserError

from . import app, data_flags, flag

_SHOWN = 12  # values of an attribute


def define_flags() -> None:
    data_flags.define_flags()
    flag.define("output", None, "output", "Folder to write [the cache's].", str)


def main() -> None:
    if data_flags.is_own() and not flags.FLAGS.output:
        raise UserError("--output: has to be given with --interactions: the folder to write, such as --output=data/shop")
    interactions = data_flags.dataset_from_flags()
    folder = expand(flags.FLAGS.output) if flags.FLAGS.output else _cached(interactions)
    if not _is_mapped_from(interactions, folder):
        interactions.save(folder)
    print(describe(interactions))
    print(f"{'folder':<25}{folder}")


def describe(interactions: Interactions) -> str:
    """Returns a table of counts, notes and the values of each attribute with their number of users, most frequent first."""
    rows = {key: str(value) for key, value in (interactions.summary() | interactions.counts | interactions.notes).items()}
    for column, (attribute, values) in enumerate(interactions.attributes.items()):
        rows[attribute] = _frequencies(interactions.profile[:, column], values)
    rows["category of items"] = _frequencies(interactions.category[1:], interactions.categories)
    return "\n".join(f"{key:<24} {text}" for key, text in rows.items())


def _frequencies(codes: np.ndarray, values: tuple[str, ...]) -> str:
    counts = np.bincount(codes, minlength=len(values))
    order = [code for code in np.argsort(-counts, kind="stable") if counts[code]]
    shown = ", ".join(f"{values[code]} {counts[code]}" for code in order[:_SHOWN])
    return shown if len(order) <= _SHOWN else f"{shown}, and {len(order) - _SHOWN} more"


def _cached(interactions: Interactions) -> Path:
    # A RecBole folder may have the name of a dataset in the cache.
    kind = flags.FLAGS.dataset.partition(":")[0]
    name = interactions.name if interactions.name.startswith(kind) else f"{kind}-{interactions.name}"
    return cache_folder(flags.FLAGS.cache_dir) / "prepared" / name


def _is_mapped_from(interactions: Interactions, folder: Path) -> bool:
    return isinstance(interactions.items, np.memmap) and Path(interactions.items.filename).parent == folder.absolute()


if __name__ == "__main__":
    app.run(main, define_flags)
