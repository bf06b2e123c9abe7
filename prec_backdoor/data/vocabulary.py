"""What the codes of a model mean: raw item ids, titles, categories, and the values of profile attributes."""

import hashlib
import json
from collections.abc import Iterable
from typing import NamedTuple

from prec_backdoor.data.interactions import RESERVED, UNKNOWN, Interactions
from prec_backdoor.errors import UserError

MAX_TEXT = 1_000  # characters of an id, a title or a name
MAX_ATTRIBUTES, MAX_VALUES = 256, 1_000_000


class Vocabulary(NamedTuple):
    """The vocabulary of a checkpoint, for V items.

    Attributes:
      items: [V] raw ids in order of code, from 1.
      titles: [V] for people, or empty.
      category: [V] codes into `categories`, or empty; 0 is unknown.
      categories: names by code, the first one `unknown`.
      attributes: profile attribute -> its values by code, the first one `unknown`, in the order of the model's.
    """

    items: tuple[str, ...]
    titles: tuple[str, ...] = ()
    category: tuple[int, ...] = ()
    categories: tuple[str, ...] = (UNKNOWN,)
    attributes: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 (never changed)

    def as_json(self) -> dict:
        """Returns the content of a JSON file."""
        return {name: value if isinstance(value, dict) else list(value) for name, value in self._asdict().items()}

    def select(self, codes: Iterable[int]) -> "Vocabulary":
        """Returns the vocabulary of the items with these codes, which are 1, 2, .. in it."""
        items, titles, category = (tuple(each[code - 1] for code in codes) if each else () for each in self[:3])
        return self._replace(items=items, titles=titles, category=category)

    def hash(self) -> str:
        """Returns the SHA-256 of the content."""
        return hash_of(self.as_json())


def hash_of(content: object) -> str:
    """Returns the SHA-256 of the content of a JSON file."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def vocabulary_of(interactions: Interactions) -> Vocabulary:
    """Returns the vocabulary of a model of this dataset."""
    titles = interactions.titles[1:].tolist()
    return Vocabulary(
        items=tuple(interactions.item_ids[1:].tolist()),
        titles=tuple(titles) if any(titles) else (),
        category=tuple(interactions.category[1:].tolist()),
        categories=tuple(interactions.categories),
        attributes={name: tuple(values) for name, values in interactions.attributes.items()},
    )


def parse_vocabulary(content: object, num_items: int) -> Vocabulary:
    """Returns the vocabulary in the content of a JSON file, which may come from a stranger.

    Raises:
      UserError: it is none, or not that of a model of `num_items` items.
    """
    if not isinstance(content, dict) or set(content) != set(Vocabulary._fields):
        raise UserError(f"vocabulary: needs the entries {', '.join(Vocabulary._fields)}")
    items = _texts(content["items"], "items", num_items)
    if len(items) != num_items or len(set(items)) < num_items or not all(items):
        raise UserError(f"vocabulary: needs {num_items} different ids of items, has {len(set(items))} in {len(items)} rows")
    titles = _texts(content["titles"], "titles", num_items)
    categories = _texts(content["categories"], "categories", MAX_VALUES)
    category = content["category"]
    if not categories or len(titles) not in (0, num_items):
        raise UserError("vocabulary: titles or names of categories are missing")
    if not isinstance(category, list) or len(category) not in (0, num_items):
        raise UserError(f"vocabulary: needs a category for each of the {num_items} items, or for none")
    if not all(type(code) is int and 0 <= code < len(categories) for code in category):
        raise UserError("vocabulary: an item has a category without a name")
    attributes = content["attributes"]
    if not isinstance(attributes, dict) or len(attributes) > MAX_ATTRIBUTES or not set(RESERVED).isdisjoint(attributes):
        raise UserError("vocabulary: attributes are no mapping of names to values")
    values = {name: _texts(own, f"values of {name!r:.40}", MAX_VALUES) for name, own in attributes.items()}
    if not all(name and len(name) <= MAX_TEXT and "\0" not in name for name in values):
        raise UserError("vocabulary: an attribute has no name, or an odd one")
    for what, names in {"categories": categories, **values}.items():
        if names[:1] != (UNKNOWN,) or len(set(names)) < len(names):
            raise UserError(f"vocabulary: {what!r:.40} are not different values after {UNKNOWN!r}")
    return Vocabulary(items, titles, tuple(category), categories, values)


def _texts(values: object, what: str, most: int) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) > most:
        raise UserError(f"vocabulary: {what} are no list of at most {most} entries")
    # NumPy strings end at a NUL, so two ids could become one.
    if not all(type(value) is str and len(value) <= MAX_TEXT and "\0" not in value for value in values):
        raise UserError(f"vocabulary: {what} are not all texts of at most {MAX_TEXT} characters, without NUL")
    return tuple(values)
