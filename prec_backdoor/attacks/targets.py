"""Selection of target items: `unpopular:10`, `ids:12,34`, `per_category:10`, `popular:10` or `middling:10`."""

import numpy as np

from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError

UNPOPULAR = (5, 20)  # pre-training interactions of an unpopular item, both limits included
BANDS = {"popular": (0.9, 1.0), "middling": (0.45, 0.55)}  # quantiles of the interactions of all items


def select_targets(expression: str, interactions: Interactions, counts: np.ndarray, seed: int, draw: int = 0) -> np.ndarray:
    """Returns [K] int32 item codes, sorted.

    `unpopular:N` draws N items at random from those with 5..20 pre-training interactions or, if there are fewer than N, from the
    nearest band with N items. `per_category:N` draws N items of each category in the same way; a category of N items or fewer
    gets no targets, as they would be the whole category. `popular:N` draws from the tenth of the items with the most
    interactions, `middling:N` from the tenth around the median. `ids:A,B` takes raw item ids.

    Args:
      counts: [V + 1] pre-training interactions of each item.
      draw: index of the random draw, for several draws with one seed.

    Raises:
      UserError: not one of these forms, an unknown id, or too few items.
    """
    kind, _, argument = expression.partition(":")
    rng = np.random.default_rng([seed, 1, draw] if draw else [seed, 1])
    catalogue = np.arange(1, interactions.num_items + 1)
    if kind == "ids":
        return _by_id(interactions, argument.split(","))
    if kind not in ("unpopular", "per_category", *BANDS) or not argument.isdecimal() or not int(argument):
        raise UserError(f"--targets: '{expression}' is none of unpopular:N, per_category:N, popular:N, middling:N, ids:A,B")
    number = int(argument)
    if kind != "per_category":
        pools = [catalogue]
    else:
        groups = (catalogue[interactions.category[1:] == code] for code in range(1, len(interactions.categories)))
        pools = [group for group in groups if len(group) > number]
    if not pools or len(pools[0]) <= number:
        raise UserError(f"--targets: {interactions.name} has too few items for {expression}; ask for fewer")
    band = np.quantile(counts[1:], BANDS[kind]) if kind in BANDS else UNPOPULAR
    return np.sort(np.concatenate([nearest(pool, counts, band, number, rng) for pool in pools])).astype(np.int32)


def check_ids(expression: str, unfiltered: Interactions, interactions: Interactions, k_core: int) -> None:
    """Explains which items of `ids:A,B` the k-core filter has left out; other expressions pass.

    Args:
      unfiltered, interactions: before and after the filter.

    Raises:
      UserError: an item is in `unfiltered` alone.
    """
    kind, _, argument = expression.partition(":")
    if kind != "ids":
        return
    wanted = {raw.strip() for raw in argument.split(",")} - set(interactions.item_ids.tolist())
    fallen = [code for code, raw in enumerate(unfiltered.item_ids.tolist()) if code and raw in wanted]
    if fallen:
        counts = [int((np.asarray(unfiltered.items) == code).sum()) for code in fallen]
        named = ", ".join(f"{unfiltered.item_ids[code]} ({count})" for code, count in zip(fallen, counts, strict=True))
        raise UserError(
            f"--targets: {unfiltered.name} has these items, but with too few interactions for --k_core={k_core}; they are left "
            f"out: {named}; take items with more interactions, or lower --k_core"
        )


def _by_id(interactions: Interactions, ids: list[str]) -> np.ndarray:
    code = {raw: code for code, raw in enumerate(interactions.item_ids.tolist()) if code}
    unknown = [raw.strip() for raw in ids if raw.strip() not in code]
    if unknown:
        raise UserError(
            f"--targets: {interactions.name} has no item with id {', '.join(unknown)}; ids are those of the raw files, and items "
            "with fewer than --k_core interactions are left out"
        )
    return np.unique([code[raw.strip()] for raw in ids]).astype(np.int32)


def nearest(pool: np.ndarray, counts: np.ndarray, band: tuple, number: int, rng: np.random.Generator) -> np.ndarray:
    """Returns `number` items of the pool with interactions in the band or, if these are too few, as near to it as necessary."""
    low, high = band
    distance = np.maximum(0, np.maximum(low - counts[pool], counts[pool] - high))
    reach = np.partition(distance, number - 1)[number - 1]
    return rng.choice(pool[distance <= reach], number, replace=False)
