"""Interactions: the item sequences of users with profiles and categories, as flat arrays."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from prec_backdoor.errors import UserError

UNKNOWN = "unknown"  # code 0 of every profile attribute and of the item categories
SCHEMA = 1
PARTS = ("train", "dev", "cold_train", "cold_dev", "cold_test")  # of a given split: two of the provider, three downstream
RESERVED = ("user", "users", "user_id", "in_group")  # columns of test_users.csv and of results; no attribute is called so
_ARRAYS = {"items": np.int32, "offsets": np.int64, "profile": np.int32, "category": np.int32}
_STRINGS = ("user_ids", "item_ids", "titles", "offered")
_OPTIONAL = ("split", "offered")


@dataclasses.dataclass(frozen=True, eq=False)
class Interactions:
    """The sequences of U users over V items: R interactions in the order of time, A profile attributes a user.

    Attributes:
      name: of the dataset.
      items: [R] int32, item codes 1..V (0 is padding), one user's sequence after another.
      offsets: [U + 1] int64; the sequence of user u is items[offsets[u]:offsets[u + 1]].
      profile: [U, A] int32, codes into `attributes`; 0 is unknown.
      attributes: attribute name -> its vocabulary (position = code, first entry `unknown`), in column order; no name of RESERVED.
      category: [V + 1] int32, codes into `categories`; 0 is unknown, and the padding item's.
      categories: the category vocabulary (position = code, first entry `unknown`).
      user_ids: [U] str, the raw user ids.
      item_ids: [V + 1] str, the raw item ids by code; the padding item's is empty.
      titles: [V + 1] str, for people; empty where the source has none.
      offered: [N] str, the raw ids of a company's catalogue, with and without interactions; None where there is no such table.
      split: [R] int8, indices into PARTS, rising within a user, where the source gives the split of its interactions; no user
        is in parts of the provider and of the downstream company. None where the split is to be drawn.
      counts: for people, what is counted in the source -> how many.
      notes: for people, what reading the source decided, as order -> the column of times and its unit.
    """

    name: str
    items: np.ndarray
    offsets: np.ndarray
    profile: np.ndarray
    attributes: dict[str, tuple[str, ...]]
    category: np.ndarray
    categories: tuple[str, ...]
    user_ids: np.ndarray
    item_ids: np.ndarray
    titles: np.ndarray
    split: np.ndarray | None = None
    offered: np.ndarray | None = None
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_attribute_names(f"dataset {self.name}", self.attributes)
        if self.offsets.ndim != 1 or len(self.offsets) < 2 or self.offsets[0] or self.offsets[-1] != len(self.items):
            raise UserError(f"dataset {self.name}: the offsets do not partition the {len(self.items)} interactions")
        expected = {
            "profile": (self.num_users, len(self.attributes)),
            "category": (self.num_items + 1,),
            "user_ids": (self.num_users,),
            "titles": (self.num_items + 1,),
        }
        if self.split is not None:
            expected["split"] = self.items.shape
        for field, shape in expected.items():
            if getattr(self, field).shape != shape:
                raise UserError(f"dataset {self.name}: {field} has shape {getattr(self, field).shape}, not {shape}")

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_items(self) -> int:
        """Catalogue size V, the padding item not counted."""
        return len(self.item_ids) - 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that results depend on (not titles, counts and notes), the first 16 hex digits."""
        digest = hashlib.sha256()
        for field, dtype in _ARRAYS.items():
            digest.update(np.ascontiguousarray(getattr(self, field), dtype))
        for field in ("user_ids", "item_ids"):
            digest.update("\n".join(getattr(self, field).tolist()).encode())
        digest.update(json.dumps([self.attributes, self.categories], sort_keys=True).encode())
        if self.split is not None:
            digest.update(np.ascontiguousarray(self.split, np.int8))
        return digest.hexdigest()[:16]

    def sequence(self, user: int) -> np.ndarray:
        """Returns the item codes of one user, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def lengths(self) -> np.ndarray:
        """Returns [U] the number of interactions of each user."""
        return np.diff(self.offsets)

    def summary(self) -> dict:
        """Returns the entry `dataset` of results.json."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "users": self.num_users,
            "items": self.num_items,
            "interactions": len(self.items),
        }

    def save(self, folder: str | Path) -> Path:
        """Writes one .npy per array and dataset.json, all or nothing; a dataset that is there is replaced.

        Raises:
          UserError: the folder holds other files.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()) and not (folder / "dataset.json").exists():
            raise UserError(f"{folder}: holds other files than a prepared dataset; give an empty or new folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(f".{folder.name}-{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        description = {
            "schema": SCHEMA,
            **self.summary(),
            "attributes": self.attributes,
            "categories": self.categories,
            **{field: getattr(self, field) is not None for field in _OPTIONAL},
            "counts": self.counts,
            "notes": self.notes,
        }
        for field in _files(description):
            np.save(partial / f"{field}.npy", getattr(self, field), allow_pickle=False)
        (partial / "dataset.json").write_text(json.dumps(description, indent=1))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Interactions":
        """Returns the dataset in a folder that `save` wrote; its arrays are memory-mapped and checked.

        Raises:
          UserError: a file is missing, damaged, or of another schema, or the content is not what the description says.
        """
        folder = Path(folder)
        with _is_reported(folder / "dataset.json"):
            description = json.loads((folder / "dataset.json").read_bytes())
            if description.get("schema") != SCHEMA:
                raise UserError(f"{folder / 'dataset.json'}: schema {description.get('schema')}, this program reads {SCHEMA}")
            described = {
                "name": str(description["name"]),
                "attributes": {name: tuple(map(str, values)) for name, values in description["attributes"].items()},
                "categories": tuple(map(str, description["categories"])),
                "counts": dict(description.get("counts", {})),
                "notes": {str(what): str(text) for what, text in description.get("notes", {}).items()},
            }
        arrays = {}
        for field in _files(description):
            with _is_reported(path := folder / f"{field}.npy"):
                arrays[field] = np.load(path, mmap_mode="r", allow_pickle=False)
                if arrays[field].dtype != _ARRAYS.get(field, np.int8) and (
                    field not in _STRINGS or arrays[field].dtype.kind != "U"
                ):
                    raise ValueError(f"type {arrays[field].dtype}")
        with _is_reported(folder):
            data = cls(**described, **arrays)
            data._check_codes()
            if data.fingerprint != description["fingerprint"]:
                raise ValueError("its arrays do not have the recorded fingerprint")
        return data

    def _check_codes(self) -> None:
        """Raises a ValueError for a code outside its vocabulary."""
        if self.item_ids.ndim != 1 or self.items.ndim != 1 or (np.diff(self.offsets) < 0).any():
            raise ValueError("its arrays do not fit")
        if self.offered is not None and self.offered.ndim != 1:
            raise ValueError("offered is no list of ids")
        ranges = {"items": (self.items, 1, self.num_items), "category": (self.category, 0, len(self.categories) - 1)}
        for column, (name, values) in enumerate(self.attributes.items()):
            ranges[name] = (self.profile[:, column], 0, len(values) - 1)
        if self.split is not None:
            ranges["split"] = (self.split, 0, len(PARTS) - 1)
        for name, (codes, low, high) in ranges.items():
            if len(codes) and not (low <= codes.min() and codes.max() <= high):
                raise ValueError(f"codes of {name} are not from {low} to {high}")

    def select(self, keep: np.ndarray) -> "Interactions":
        """Returns the interactions where `keep` [R] is true; users and items without any are dropped, the others recoded."""
        kept_users, users = _recode(np.repeat(np.arange(self.num_users, dtype=np.int32), self.lengths())[keep])
        kept_items, items = _recode(np.asarray(self.items)[keep])
        rows = np.concatenate([[0], kept_items])
        return dataclasses.replace(
            self,
            items=items + 1,
            offsets=np.concatenate([[0], np.cumsum(np.bincount(users, minlength=len(kept_users)))]).astype(np.int64),
            profile=self.profile[kept_users],
            category=self.category[rows],
            user_ids=self.user_ids[kept_users],
            item_ids=self.item_ids[rows],
            titles=self.titles[rows],
            split=None if self.split is None else self.split[keep],
        )


def check_attribute_names(where: str, names: Iterable[str]) -> None:
    """Raises a UserError, beginning with `where`, for a profile attribute that has no name or one of RESERVED."""
    for name in names:
        if not name or name in RESERVED:
            raise UserError(
                f"{where}: a profile attribute must not be called {' or '.join(RESERVED)}, got {name!r}; rename the column"
            )


def _recode(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct codes, rising, and for each code its place among them [R] int32, without the sort of np.unique."""
    met = np.bincount(codes) > 0
    return np.flatnonzero(met), (np.cumsum(met, dtype=np.int32) - 1)[codes]


def _files(description: dict) -> tuple[str, ...]:
    return tuple(field for field in (*_ARRAYS, *_STRINGS, "split") if field not in _OPTIONAL or description.get(field))


@contextlib.contextmanager
def _is_reported(where: Path):
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # files of any content make parsers raise anything
        raise UserError(f"{where}: not of a prepared dataset ({error!s:.120}); run launch.prepare_data again") from error
