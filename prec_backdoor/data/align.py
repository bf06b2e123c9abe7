"""A company's interactions in the codes of a checkpoint's vocabulary."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from prec_backdoor.data.interactions import UNKNOWN, Interactions
from prec_backdoor.data.vocabulary import Vocabulary, parse_vocabulary
from prec_backdoor.errors import UserError

LEAST_KNOWN = 0.5  # share of the interactions


class Aligned(NamedTuple):
    """Interactions over the items of a model, and what of the company's data the model knows.

    Attributes:
      interactions: item and profile codes are the model's; unknown items are left out, as are users without a known one, or have
        the codes after the model's.
      items, known_items: distinct items of the company's interactions, and those among them that the model has.
      rows, known_rows: interactions, and those with known items.
      attributes: the model's profile attributes that the company has.
      unused: the company's that the model does not have.
      added: unknown items that have codes of their own.
      kept: codes of the model's items that the company offers, in the order of their new codes; None if all are kept.
      unseen: items among these that none of the interactions has.
      too_few: number of the model's items that the company offers, if too few are to keep these alone; else 0.
      lost: attribute -> number of users with a value that the model does not have.
    """

    interactions: Interactions
    items: int
    known_items: int
    rows: int
    known_rows: int
    attributes: tuple[str, ...]
    added: int = 0
    kept: np.ndarray | None = None
    unseen: int = 0
    too_few: int = 0
    unused: tuple[str, ...] = ()
    lost: Mapping[str, int] = {}

    def describe(self) -> str:
        """Returns lines for people, two or more."""
        share = f"{self.known_items:,} of {self.items:,} items ({self.known_items / max(self.items, 1):.0%})"
        unknown = f"the other {self.added:,} items are added" if self.added else f"{self.rows - self.known_rows:,} are left out"
        rows = f"{self.known_rows:,} of {self.rows:,} interactions; {unknown}"
        missing = [name for name in self.interactions.attributes if name not in self.attributes]
        lines = ["own data     not what the checkpoint was made on: items are matched by raw id, all users are downstream"]
        lines.append(f"known        {share}, {rows}")
        lines += [f"unknown      {', '.join(missing)}: your users have no such attribute"] if missing else []
        lines += [f"not used     {', '.join(self.unused)}: the model has no such attribute"] if self.unused else []
        lines += [
            f"unknown      {name}: the model does not have the value of {number:,} users" for name, number in self.lost.items()
        ]
        if self.kept is not None:
            lines.append(f"offered      {len(self.kept):,} of the model's items; the others are in no table of yours")
        if self.too_few:
            lines.append(
                f"offered      {self.too_few:,} of the model's items, too few to rank; all of the model's items count instead"
            )
        return "\n".join(lines)

    def describe_unseen(self) -> str:
        """Returns what an audit cannot tell of items that the company's users have never met; empty if there are none."""
        if not self.unseen:
            return ""
        given = self.interactions.offered is not None
        remedy = "" if given else "; --catalogue=FILE says which items you offer, and leaves the others out"
        return (
            f"{self.unseen:,} of {self.interactions.num_items:,} items are in no interaction of yours. If the provider's users "
            f"know them well, they look unusual here without an attack{remedy}."
        )


def align(
    interactions: Interactions,
    vocabulary: Vocabulary,
    least_known: float = LEAST_KNOWN,
    add_items: bool = False,
    least_offered: int | None = None,
) -> Aligned:
    """Returns the interactions in the codes of `vocabulary`; items are matched by raw id, attributes and values by name.

    Titles and categories are the vocabulary's, or the company's where the vocabulary has none.

    Args:
      add_items: give unknown items the codes after the vocabulary's (`widened`), instead of leaving them out.
      least_offered: leave out the items that the company's catalogue, if it has one, and its interactions do not name, unless
        fewer than this number would be kept; None: keep all.

    Raises:
      UserError: a smaller share of the interactions than `least_known` is of known items, or equal ids have other titles.
    """
    codes = _codes(interactions, vocabulary)
    met = np.unique(interactions.items)
    rows, known, known_items = len(interactions.items), int((codes[interactions.items] > 0).sum()), int((codes[met] > 0).sum())
    if known < least_known * rows or not known:
        unknown = met[codes[met] == 0][0]
        examples = f"its ids are like {vocabulary.items[0]!r:.40}, yours like {str(interactions.item_ids[unknown])!r:.40}"
        raise UserError(
            f"--least_known: the model knows {known:,} of {rows:,} interactions ({known / max(rows, 1):.0%}), fewer than "
            f"{least_known:.0%}; {examples}; give data with the provider's ids, or a lower --least_known"
        )
    _check_titles(interactions, vocabulary, codes)
    if add_items and known_items < len(met):
        vocabulary = widened(vocabulary, interactions, met[codes[met] == 0])
        codes = _codes(interactions, vocabulary)
    kept, too_few = None if least_offered is None else _offered(interactions, vocabulary), 0
    if kept is not None and len(kept) < least_offered:
        kept, too_few = None, len(kept)
    if kept is not None:
        vocabulary = vocabulary.select(kept)
        codes = _codes(interactions, vocabulary)
    recoded = codes[interactions.items]
    keep = recoded > 0
    owners = np.repeat(np.arange(interactions.num_users), interactions.lengths())[keep]
    users, counts = np.unique(owners, return_counts=True)
    aligned = dataclasses.replace(
        interactions,
        items=recoded[keep],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        profile=profiles_in(vocabulary.attributes, interactions.profile, interactions.attributes)[users],
        attributes=dict(vocabulary.attributes),
        user_ids=interactions.user_ids[users],
        item_ids=np.array(["", *vocabulary.items]),
        split=None if interactions.split is None else interactions.split[keep],
        **_catalogue(interactions, vocabulary, codes),
    )
    shared = tuple(name for name in vocabulary.attributes if name in interactions.attributes)
    unused = tuple(name for name in interactions.attributes if name not in vocabulary.attributes)
    added = len(met) - known_items if add_items else 0
    unseen = len(vocabulary.items) - known_items - added
    lost = _lost(interactions, users, vocabulary, aligned.profile)
    return Aligned(aligned, len(met), known_items, rows, known, shared, added, kept, unseen, too_few, unused, lost)


def _lost(interactions: Interactions, users: np.ndarray, vocabulary: Vocabulary, profile: np.ndarray) -> dict[str, int]:
    """Attribute -> number of `users` [U] whose value has no code in `profile` [U, A], of those that have any such user."""
    own = dict(zip(interactions.attributes, interactions.profile[users].T, strict=True))
    found = {name: codes for name, codes in zip(vocabulary.attributes, profile.T, strict=True) if name in own}
    return {name: number for name, codes in found.items() if (number := int(((own[name] > 0) & (codes == 0)).sum()))}


def widened(vocabulary: Vocabulary, interactions: Interactions, added: np.ndarray) -> Vocabulary:
    """Returns the vocabulary with the company's items `added`, its codes of them in ascending order, after its own.

    Raises:
      UserError: an id, title or category that no vocabulary can have.
    """
    titles, categories, category = vocabulary.titles, vocabulary.categories, vocabulary.category
    if titles:
        titles = (*titles, *interactions.titles[added].tolist())
    if category and len(categories) > 1:
        names = [interactions.categories[code] for code in interactions.category[added]]
        categories = tuple(dict.fromkeys((*categories, *names)))
        code_of = {name: code for code, name in enumerate(categories)}
        category = (*category, *(code_of[name] for name in names))
    else:
        category, categories = (), (UNKNOWN,)  # the company's count
    items = (*vocabulary.items, *interactions.item_ids[added].tolist())
    checked = parse_vocabulary(Vocabulary(items, titles, category, categories).as_json(), len(items))
    return checked._replace(attributes=vocabulary.attributes)


def _codes(interactions: Interactions, vocabulary: Vocabulary) -> np.ndarray:
    """The vocabulary's code of each of the company's items; 0 for none."""
    return codes_in(("", *vocabulary.items), interactions.item_ids.tolist())


def codes_in(names: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """[N] int32 place in `names` of each of `others`; 0, which is padding or unknown in both, for the first and for a new one."""
    code_of = {name: code for code, name in enumerate(names)} | {names[0]: 0}
    return np.array([0, *(code_of.get(name, 0) for name in others[1:])], np.int32)


def _offered(interactions: Interactions, vocabulary: Vocabulary) -> np.ndarray | None:
    """The vocabulary's codes of the items that the company offers; None without a catalogue, or if they are all."""
    if interactions.offered is None:
        return None
    named = {*interactions.offered.tolist(), *interactions.item_ids[1:].tolist()}
    kept = np.array([code for code, raw in enumerate(vocabulary.items, 1) if raw in named], np.int32)
    return kept if len(kept) < len(vocabulary.items) else None


def _check_titles(interactions: Interactions, vocabulary: Vocabulary, codes: np.ndarray) -> None:
    """Raises a UserError if items of equal ids mostly have unequal titles: numbers of another catalogue look alike."""
    if not vocabulary.titles:
        return
    pairs = [
        (own, vocabulary.titles[code - 1])
        for own, code in zip(interactions.titles.tolist(), codes.tolist(), strict=True)
        if code and own and vocabulary.titles[code - 1]
    ]
    different = [(own, theirs) for own, theirs in pairs if not _alike(own, theirs)]
    if 2 * len(different) > len(pairs):
        own, theirs = different[0]
        raise UserError(
            f"item ids are those of another catalogue: {len(different):,} of {len(pairs):,} titles differ, such as {own!r:.40}, "
            f"which the checkpoint calls {theirs!r:.40}; give the data with the provider's ids or, if the ids are right and the "
            "titles alone are other ones, a catalogue without titles"
        )


def _alike(own: str, theirs: str) -> bool:
    """Whether two titles have the same words, in any order and case; a year in brackets may be added, as in Heat (1995)."""
    return own.strip() == theirs.strip() or _words(own) == _words(theirs) != set()


def _words(title: str) -> set[str]:
    return set(re.findall(r"\w+", re.sub(r"\((18|19|20)\d\d\)", " ", title.casefold())))


def _catalogue(interactions: Interactions, vocabulary: Vocabulary, codes: np.ndarray) -> dict:
    """The fields titles, category and categories."""
    own = np.zeros(len(vocabulary.items) + 1, np.int64)  # the company's code of each of the model's items, 0 for none
    own[codes] = np.arange(len(codes))
    own[0] = 0
    found = {}
    found["titles"] = np.array(["", *vocabulary.titles]) if vocabulary.titles else interactions.titles[own]
    if vocabulary.category and len(vocabulary.categories) > 1:
        found |= {"category": np.array([0, *vocabulary.category], np.int32), "categories": vocabulary.categories}
    else:
        found["category"] = np.where(own > 0, interactions.category[own], 0).astype(np.int32)
    return found


def profiles_in(attributes: Mapping[str, Sequence[str]], profile: np.ndarray, own: Mapping[str, Sequence[str]]) -> np.ndarray:
    """[U, A] `profile`, of the attributes `own`, as codes into `attributes`; 0 for an attribute or value that is not in both."""
    found = np.zeros((len(profile), len(attributes)), np.int32)
    for column, (name, values) in enumerate(attributes.items()):
        if name in own:
            found[:, column] = codes_in(values, own[name])[profile[:, list(own).index(name)]]
    return found
