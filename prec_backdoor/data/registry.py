"""Datasets by name. A new one is a reader of its raw files and one line here; a download goes into download.py."""

import dataclasses
import fcntl
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from prec_backdoor.data import aliec, cikm, download, ml_1m, ml_100k, presplit, recbole
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.synthetic import synthetic
from prec_backdoor.errors import UserError

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
_SOURCES = {"aliec": aliec.SOURCE, "cikm": cikm.SOURCE, "presplit": presplit.SOURCE}  # of what cannot be downloaded here


def register_dataset(name: str, reader: Callable[[Path, Counter | None], Interactions], group: str | None = None) -> None:
    """Adds a reader of raw files, for --dataset=NAME --data_dir=FOLDER.

    Args:
      reader: (folder, skipped) -> Interactions whose name starts with `name` (see `tables.to_interactions`). `skipped` counts
        malformed rows by reason; if it is None, they raise a UserError.
      group: the target group if none is given.

    Raises:
      ValueError: the name is taken, or has a colon.
    """
    if name in DATASETS or name == "synthetic" or ":" in name:
        raise ValueError(f"a dataset cannot be called {name}: the name is taken or has a colon")
    DATASETS[name] = reader
    if group:
        DEFAULT_GROUPS[name] = group


def load_dataset(
    dataset: str,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    synthetic_preset: str = "small",
    synthetic_users: int | None = None,
    synthetic_items: int | None = None,
    synthetic_seed: int = 0,
    behaviours: Sequence[str] | None = None,
    on_bad_rows: str = "error",
) -> Interactions:
    """Loads synthetic, recbole:DIR or a dataset of DATASETS.

    `data_dir` holds raw files or a prepared dataset and is read without any network. Without it the dataset comes from
    the cache, where the first use downloads and prepares it. Prepared datasets are memory-mapped. `behaviours` are those
    of cikm that count; None takes all, or those that a prepared dataset has. With `on_bad_rows` "skip" wrong rows of raw files
    in `data_dir` are left out, and stderr and the dataset's counts say how many and why; headers must be right all the same.

    Raises:
      UserError: unknown dataset, bad or missing files, no download.
    """
    kind, _, folder = dataset.partition(":")
    if kind not in (*DATASETS, "synthetic") or (folder and kind != "recbole"):
        names = ", ".join(name for name in ("synthetic", *DATASETS) if name != "recbole")
        raise UserError(f"unknown dataset {dataset!r}; choose one of {names}, recbole:DIR")
    if folder and data_dir:
        raise UserError(f"dataset {dataset} names its folder already; leave out --data_dir={data_dir}")
    if folder or data_dir:
        return _from_folder(kind, Path(folder or data_dir).expanduser(), behaviours, Counter() if on_bad_rows == "skip" else None)
    if kind == "synthetic":
        return synthetic(synthetic_preset, synthetic_users, synthetic_items, synthetic_seed)
    if kind not in download.COUNTS:
        where = f" (the files are {_SOURCES[kind]})" if kind in _SOURCES else ""
        raise UserError(f"dataset {kind} cannot be downloaded; pass the folder of its files as --data_dir{where}")
    return _from_cache(kind, cache_folder(cache_dir))


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Where downloads (raw/NAME) and prepared datasets (prepared/NAME) are kept."""
    return Path(cache_dir or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "prec_backdoor").expanduser()


def _from_folder(kind: str, folder: Path, behaviours: Sequence[str] | None, skipped: Counter | None) -> Interactions:
    if not (folder / "dataset.json").exists():
        if kind == "synthetic":
            raise UserError(f"{folder}: no prepared dataset; leave out --data_dir to make synthetic data")
        more = {"behaviours": behaviours} if kind == "cikm" else {}
        return _with_skipped(DATASETS[kind](folder, skipped, **more), skipped)
    prepared = Interactions.load(folder)
    if kind == "cikm" and behaviours is not None and prepared.name != (wanted := cikm.dataset_name(behaviours)):
        raise UserError(f"{folder}: the dataset prepared there is {prepared.name}, not {wanted}; change --behaviours")
    if kind != "recbole" and not prepared.name.startswith(kind):
        raise UserError(f"{folder}: the dataset prepared there is {prepared.name}, not {kind}; change --dataset")
    return prepared


def _with_skipped(interactions: Interactions, skipped: Counter | None) -> Interactions:
    """Says what was skipped, and adds it to the counts."""
    for reason, rows in (skipped or {}).items():
        print(f"skipped {rows} rows, {reason}", file=sys.stderr)
    counts = {f"skipped, {reason}": rows for reason, rows in (skipped or {}).items()}
    return dataclasses.replace(interactions, counts=interactions.counts | counts)


def _from_cache(name: str, cache: Path) -> Interactions:
    raw, prepared = cache / "raw" / name, cache / "prepared" / name
    cache.mkdir(parents=True, exist_ok=True)
    # One process prepares, the others of a multi-process run wait for it.
    with open(cache / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return Interactions.load(prepared)
        except UserError:  # not there yet, damaged, or of an older schema
            if not raw.exists():
                download.fetch(name, raw)
            interactions = DATASETS[name](raw, None)
            download.check_counts(interactions, raw)
            return Interactions.load(interactions.save(prepared))
