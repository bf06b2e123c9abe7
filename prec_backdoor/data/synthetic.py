"""Synthetic data: the profile of a user sets tastes in categories, and each item has habitual successors."""

import dataclasses

import numpy as np

from prec_backdoor.data.interactions import UNKNOWN, Interactions
from prec_backdoor.errors import UserError


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """Sizes and habits of a synthetic dataset.

    Attributes:
      users, items, categories: how many.
      attributes: profile attribute -> its values.
      blank: attribute -> share of users whose value is unknown.
      min_length, mean_length, max_length: of the sequences; max_length is lowered to half of the catalogue.
      taste: spread of the category tastes of profiles, in log odds.
      stay: chance to stay in the category of the last item.
      follow: chance to take a habitual successor when staying.
      zipf: popularity in a category falls as rank ** -zipf.
    """

    users: int
    items: int
    categories: int
    attributes: dict[str, tuple[str, ...]]
    blank: dict[str, float]
    min_length: int
    mean_length: float
    max_length: int
    taste: float = 1.5
    stay: float = 0.75
    follow: float = 0.7
    zipf: float = 0.8


def _numbers(first: int, last: int) -> tuple[str, ...]:
    return tuple(str(value) for value in range(first, last + 1))


PRESETS = {
    "small": SyntheticConfig(
        users=1_500,
        items=600,
        categories=20,
        attributes={
            "age": ("10-19", "20-29", "30-39", "40-49", "50-59"),
            "gender": ("F", "M"),
            "occupation": ("artist", "educator", "engineer", "lawyer", "retired", "student"),
        },
        blank={"occupation": 0.05},
        min_length=5,
        mean_length=25,
        max_length=100,
    ),
    # The columns and vocabularies of AliEC's user_profile.csv, and its size after filtering.
    "aliec-like": SyntheticConfig(
        users=98_000,
        items=110_000,
        categories=300,
        attributes={
            "cms_segid": _numbers(0, 96),
            "cms_group_id": _numbers(0, 12),
            "final_gender_code": _numbers(1, 2),
            "age_level": _numbers(0, 6),
            "pvalue_level": _numbers(1, 3),
            "shopping_level": _numbers(1, 3),
            "occupation": _numbers(0, 1),
            "new_user_class_level": _numbers(1, 4),
        },
        blank={"pvalue_level": 0.54, "new_user_class_level": 0.32},
        min_length=5,
        mean_length=36,
        max_length=100,
    ),
}
_SUCCESSOR_SHARES = np.array([0.55, 0.25, 0.15, 0.05])


def synthetic(preset: str = "small", users: int | None = None, items: int | None = None, seed: int = 0) -> Interactions:
    """Returns a dataset named synthetic-PRESET, the same one for the same arguments; no user has an item twice.

    Items without a user are dropped, so the catalogue may be smaller than `items`.

    Raises:
      UserError: unknown preset, no user, or too few items for sequences without repetition.
    """
    if preset not in PRESETS:
        raise UserError(f"unknown synthetic preset {preset!r}; choose one of {', '.join(PRESETS)}")
    config = PRESETS[preset]
    sizes = {"users": config.users if users is None else users, "items": config.items if items is None else items}
    config = dataclasses.replace(config, categories=min(config.categories, sizes["items"] // 4), **sizes)
    if config.users < 1 or config.items < 2 * config.min_length:
        raise UserError(
            f"synthetic data of {config.users} users and {config.items} items cannot be made; "
            f"ask for at least 1 user and {2 * config.min_length} items"
        )
    return _make(f"synthetic-{preset}", config, np.random.default_rng(seed))


def _make(name: str, config: SyntheticConfig, rng: np.random.Generator) -> Interactions:
    profile = _draw_profiles(config, rng)
    catalogue = _Catalogue(config, rng)
    tastes = _cumulative_tastes(config, profile, rng)
    lengths = _draw_lengths(config, rng)
    history = _walk(config, catalogue, tastes, lengths, rng)
    for column, attribute in enumerate(config.attributes):
        profile[rng.random(config.users) < config.blank.get(attribute, 0), column] = 0

    # Codes are in random order, so that they do not tell category and popularity.
    code = np.concatenate([[0], 1 + rng.permutation(config.items)])
    category = np.zeros(config.items + 1, np.int32)
    category[code[1:]] = 1 + catalogue.category
    items = code[1 + history[np.arange(history.shape[1]) < lengths[:, None]]].astype(np.int32)
    made = Interactions(
        name=name,
        items=items,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        profile=profile,
        attributes={attribute: (UNKNOWN, *values) for attribute, values in config.attributes.items()},
        category=category,
        categories=(UNKNOWN, *_numbers(1, config.categories)),
        user_ids=np.arange(1, config.users + 1).astype(str),
        item_ids=np.array(["", *_numbers(1, config.items)]),
        titles=np.full(config.items + 1, "", "U1"),
    )
    return made.select(np.ones(len(items), bool))


def _draw_profiles(config: SyntheticConfig, rng: np.random.Generator) -> np.ndarray:
    """[U, A] int32 codes from 1."""
    columns = []
    for values in config.attributes.values():
        shares = rng.dirichlet(np.full(len(values), 10.0))
        columns.append(1 + rng.choice(len(values), config.users, p=shares))
    return np.stack(columns, 1).astype(np.int32)


def _draw_lengths(config: SyntheticConfig, rng: np.random.Generator) -> np.ndarray:
    """[U] int64, mostly short: drawn from a beta distribution scaled to the limits, with the mean of the configuration."""
    span = config.max_length - config.min_length
    share = (config.mean_length - config.min_length) / span
    lengths = config.min_length + np.rint(span * rng.beta(1, 1 / share - 1, config.users)).astype(np.int64)
    return np.minimum(lengths, config.items // 2)


def _cumulative_tastes(config: SyntheticConfig, profile: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[U, C] float32: the running sum of each user's category shares."""
    logits = np.zeros((config.users, config.categories), np.float32)
    for column, values in enumerate(config.attributes.values()):
        effects = rng.normal(0, config.taste, (len(values) + 1, config.categories)).astype(np.float32)
        logits += effects[profile[:, column]] / np.sqrt(profile.shape[1], dtype=np.float32)
    np.exp(logits, out=logits)
    np.cumsum(logits, 1, out=logits)
    logits /= logits[:, -1:]
    return logits


class _Catalogue:
    """Items 0..V-1 in blocks of one category, each with its popularity and successors within its category."""

    def __init__(self, config: SyntheticConfig, rng: np.random.Generator):
        sizes = 1 / np.arange(1, config.categories + 1) ** 0.5
        others = rng.choice(config.categories, config.items - config.categories, p=sizes / sizes.sum())
        self.category = np.sort(np.concatenate([np.arange(config.categories), others]))
        self.start = np.searchsorted(self.category, np.arange(config.categories + 1))
        rank = 1 + np.arange(config.items) - self.start[self.category]
        shares = rank**-config.zipf
        shares /= np.add.reduceat(shares, self.start[:-1])[self.category]
        # Each category adds one, so category + uniform is the place of an item of this category, drawn by its popularity.
        self._cumulative = np.cumsum(shares)
        self.successors = self.draw(np.repeat(self.category[:, None], len(_SUCCESSOR_SHARES), 1), rng)

    def draw(self, category: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One item of each category, of the same shape."""
        item = np.searchsorted(self._cumulative, category + rng.random(category.shape))
        return np.clip(item, self.start[category], self.start[category + 1] - 1)


def _walk(
    config: SyntheticConfig, catalogue: _Catalogue, tastes: np.ndarray, lengths: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """[U, longest] int32 items; the first `lengths` of a row count. A loop over time steps, vectorised over users."""
    history = np.full((config.users, lengths.max()), -1, np.int32)
    for step in range(history.shape[1]):
        active = np.flatnonzero(lengths > step)
        stay = (step > 0) & (rng.random(len(active)) < config.stay)
        follow = stay & (rng.random(len(active)) < config.follow)
        last = history[active, step - 1]  # not used at the first step, where nobody stays
        wanted = (tastes[active] < rng.random((len(active), 1), np.float32)).sum(1)
        category = np.where(stay, catalogue.category[last], wanted)
        habit = rng.choice(len(_SUCCESSOR_SHARES), len(active), p=_SUCCESSOR_SHARES)
        items = np.where(follow, catalogue.successors[last, habit], catalogue.draw(category, rng))
        seen = history[active, :step]
        repeated = np.flatnonzero((seen == items[:, None]).any(1))
        items[repeated] = catalogue.draw(category[repeated], rng)
        while (repeated := repeated[(seen[repeated] == items[repeated, None]).any(1)]).size:
            items[repeated] = rng.integers(config.items, size=len(repeated))
        history[active, step] = items
    return history
