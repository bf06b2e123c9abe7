"""Datasets by name. A new one is a reader of its raw files and one line here; a download goes into download.py."""

import dataclasses
import fcntl
import math
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prec_backdoor.data import aliec, cikm, download, ml_1m, ml_100k, presplit, recbole
from prec_backdoor.data.columns import check_columns
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.synthetic import synthetic
from prec_backdoor.data.tables import rated_name
from prec_backdoor.errors import UserError
from prec_backdoor.options import add_entry

DATASETS: dict[str, Callable[[Path, Counter | None], Interactions]] = {
    "ml-100k": ml_100k.read,
    "ml-1m": ml_1m.read,
    "aliec": aliec.read,
    "cikm": cikm.read,
    "presplit": presplit.read,
    "recbole": recbole.read,
}
DEFAULT_GROUPS = {
    "synthetic": "occupation=student",
    "ml-100k": "occupation=student",
    "ml-1m": "occupation=college/grad student",
    "aliec": "age_level=3",
}
_SOURCES = {"aliec": aliec.SOURCE, "cikm": cikm.SOURCE, "presplit": presplit.SOURCE}  # of datasets without a download
_RATED = ("ml-100k", "ml-1m", "recbole")
_MAIN_FILES = {
    "ml-100k": ("u.data", "ml-100k.inter"),
    "ml-1m": ("ratings.dat",),
    "aliec": ("raw_sample.csv",),
    "cikm": ("user_behavior.csv",),
    "presplit": tuple(f"train{suffix}" for suffix in presplit.SUFFIXES),
}


def register_dataset(name: str, reader: Callable[[Path, Counter | None], Interactions], group: str | None = None) -> None:
    """Adds a reader of raw files, for --dataset=NAME --data_dir=FOLDER.

    Args:
      reader: (folder, skipped) -> Interactions whose name starts with `name` (see `tables.to_interactions`). `skipped` counts
        malformed rows by reason; if it is None, they raise a UserError.
      group: the target group if none is given.

    Raises:
      ValueError: the name is taken, or has a colon.
    """
    if name == "synthetic" or ":" in name:
        raise ValueError(f"a dataset cannot be called {name}: the name is taken or has a colon")
    add_entry(DATASETS, "dataset", name, reader)
    if group:
        DEFAULT_GROUPS[name] = group


def load_dataset(
    dataset: str,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    *,
    synthetic_preset: str = "small",
    synthetic_users: int | None = None,
    synthetic_items: int | None = None,
    synthetic_seed: int = 0,
    behaviours: Sequence[str] | None = None,
    on_bad_rows: str = "error",
    columns: Mapping[str, str] | None = None,
    min_rating: float | None = None,
) -> Interactions:
    """Returns the dataset: synthetic, recbole:DIR or one of DATASETS. A prepared dataset is memory-mapped.

    Args:
      data_dir: folder of raw files or of a prepared dataset, read without network. Without it the dataset comes from the cache;
        the first use downloads and prepares it.
      behaviours: what counts as an interaction in cikm; None takes all, or those that a prepared dataset has.
      on_bad_rows: "skip" leaves out wrong rows of raw files in `data_dir`; stderr and the counts say how many and why. A header
        must be right all the same.
      columns: role -> column of recbole:DIR, see `columns.ROLES`.
      min_rating: least rating of an interaction in ml-100k, ml-1m and recbole:DIR; None takes all rows.

    Raises:
      UserError: unknown dataset, bad or missing files, no download, an argument that does not fit the dataset.
    """
    kind, _, folder = dataset.partition(":")
    if kind not in (*DATASETS, "synthetic") or (folder and kind != "recbole"):
        names = ", ".join(name for name in ("synthetic", *DATASETS) if name != "recbole")
        raise UserError(f"unknown dataset {dataset!r}; choose one of {names}, recbole:DIR")
    if folder and data_dir:
        raise UserError(f"dataset {dataset} names its folder already; leave out --data_dir={data_dir}")
    options = _options(kind, columns, min_rating, behaviours)
    if folder or data_dir:
        return _from_folder(kind, expand(folder or data_dir), options, Counter() if on_bad_rows == "skip" else None)
    if kind == "synthetic":
        return synthetic(synthetic_preset, synthetic_users, synthetic_items, synthetic_seed)
    if kind not in download.COUNTS:
        where = f" (the files are {_SOURCES[kind]})" if kind in _SOURCES else ""
        raise UserError(f"dataset {kind} cannot be downloaded; pass the folder of its files as --data_dir{where}")
    return _from_cache(kind, cache_folder(cache_dir), options)


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Returns the folder of downloads (raw/NAME) and prepared datasets (prepared/NAME).

    It is in the folder for temporary files where neither an environment variable nor the user database names a home.
    """
    if cache_dir:
        return expand(cache_dir)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "prec_backdoor"
    except RuntimeError:  # no home
        return Path(tempfile.gettempdir()) / f"prec_backdoor-{os.getuid()}"


def expand(path: str | Path) -> Path:
    """Returns the path with ~ replaced; raises UserError where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: no home folder is known for '~'; write the whole path") from error


def _options(
    kind: str, columns: Mapping[str, str] | None, min_rating: float | None, behaviours: Sequence[str] | None
) -> dict[str, object]:
    """The further arguments of the reader of a kind, those that are given; raises UserError for one that it does not take."""
    options = {}
    if columns := check_columns(columns):
        if kind != "recbole":
            raise UserError(f"--columns: the columns of {kind} are fixed; leave the flag out, or give --dataset=recbole:DIR")
        options["columns"] = columns
    if min_rating is not None:
        if kind not in _RATED:
            raise UserError(f"--min_rating: {kind} has no ratings; leave the flag out")
        if not math.isfinite(min_rating):
            raise UserError(f"--min_rating must be finite, got {min_rating}")
        options["min_rating"] = min_rating
    if kind == "cikm" and behaviours is not None:
        options["behaviours"] = behaviours
    return options


def _from_folder(kind: str, folder: Path, options: dict, skipped: Counter | None) -> Interactions:
    if not (folder / "dataset.json").exists():
        if kind == "synthetic":
            raise UserError(f"{folder}: no prepared dataset; leave out --data_dir to make synthetic data")
        _check_kind(kind, folder)
        return with_skipped(DATASETS[kind](folder, skipped, **options), skipped)
    prepared = Interactions.load(folder)
    if kind == "cikm" and (behaviours := options.get("behaviours")) and prepared.name != cikm.dataset_name(behaviours):
        wanted = cikm.dataset_name(behaviours)
        raise UserError(f"{folder}: the dataset prepared there is {prepared.name}, not {wanted}; change --behaviours")
    if kind != "recbole" and not prepared.name.startswith(kind):
        raise UserError(f"{folder}: the dataset prepared there is {prepared.name}, not {kind}; change --dataset")
    rated = options.get("min_rating")
    if "columns" in options or (rated is not None and not prepared.name.endswith(rated_name("", rated))):
        flag = "--columns" if "columns" in options else "--min_rating"
        raise UserError(
            f"{folder}: {flag} is for raw files, and {prepared.name} there is prepared; prepare it anew from its files"
        )
    return prepared


def _check_kind(kind: str, folder: Path) -> None:
    """Raises a UserError where a folder holds the files of another kind of dataset, with the --dataset that reads them."""

    def holds(other: str) -> bool:
        return any((folder / name).is_file() for name in _MAIN_FILES[other])

    atomic = sorted(path.name for path in folder.glob("*.inter"))
    if kind != "recbole" and atomic and not holds(kind):
        raise UserError(f"{folder}: holds {atomic[0]}, in RecBole's form, not files of {kind}; give --dataset=recbole:{folder}")
    if kind == "recbole" and not atomic and (others := [other for other in _MAIN_FILES if holds(other)]):
        raise UserError(
            f"{folder}: holds no .inter file but files of {others[0]}; give --dataset={others[0]} --data_dir={folder}"
        )


def with_skipped(interactions: Interactions, skipped: Counter | None) -> Interactions:
    """Returns the dataset with what was skipped among its counts, and prints it."""
    for reason, rows in (skipped or {}).items():
        print(f"skipped {rows} rows, {reason}", file=sys.stderr)
    counts = {f"skipped, {reason}": rows for reason, rows in (skipped or {}).items()}
    return dataclasses.replace(interactions, counts=interactions.counts | counts)


def _from_cache(name: str, cache: Path, options: dict) -> Interactions:
    raw, prepared = cache / "raw" / name, cache / "prepared" / rated_name(name, options.get("min_rating"))
    cache.mkdir(parents=True, exist_ok=True)
    # One process prepares, the others of a multi-process run wait for it.
    with open(cache / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return Interactions.load(prepared)
        except UserError:  # not there yet, damaged, or of an older schema
            if not raw.exists():
                download.fetch(name, raw)
            interactions = DATASETS[name](raw, None, **options)
            if not options:
                download.check_counts(interactions, raw)
            return Interactions.load(interactions.save(prepared))
