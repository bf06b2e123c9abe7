"""Tables of events, users and items -> Interactions."""

import numpy as np
import polars as pl

from prec_backdoor.data.interactions import UNKNOWN, Interactions
from prec_backdoor.errors import UserError

MAX_TITLE = 256  # characters; titles are kept in an array as wide as the longest


def to_interactions(
    name: str,
    events: pl.DataFrame,
    users: pl.DataFrame | None = None,
    items: pl.DataFrame | None = None,
    counts: dict[str, int] | None = None,
) -> Interactions:
    """Codes users, items, profiles and categories and orders each user's events by time, ties in the order given.

    Codes follow the natural order of the raw texts, so that every copy of a dataset gets the same ones. Users and items
    without an event are dropped; whatever is blank, or not listed in `users` or `items`, is unknown.

    Args:
      name: of the dataset.
      events: columns user, item (texts, or whole numbers, which take less memory) and time (number); also split (see
        Interactions), which orders before time.
      users: column user without duplicates; every other column (text) is a profile attribute.
      items: columns item without duplicates, category and title (text).
      counts: see Interactions; users and items that are not listed are added.

    Raises:
      UserError: there is no event.
    """
    if events.is_empty():
        raise UserError(f"dataset {name}: no interaction is left; get the files again")
    counts = dict(counts or {})
    user_ids, item_ids = natural_order(events["user"]), natural_order(events["item"])
    user, item = (_codes(events[column], ids) for column, ids in (("user", user_ids), ("item", item_ids)))
    order = [column for column in ("split", "time") if column in events.columns]
    events = events.select(user, item + 1, *order).sort("user", *order, maintain_order=True)

    attributes = {}
    profile = np.zeros((len(user_ids), 0 if users is None else users.width - 1), np.int32)
    if users is not None:
        users = users.join(user_ids.to_frame("user"), on="user", how="semi")
        counts["users without a profile"] = len(user_ids) - users.height
        rows = _codes(users["user"], user_ids).to_numpy()
        for column, attribute in enumerate(users.drop("user").columns):
            profile[rows, column], attributes[attribute] = _encode(users[attribute])

    category, categories = np.zeros(len(item_ids) + 1, np.int32), (UNKNOWN,)
    titles = np.full(len(item_ids) + 1, "", object)
    if items is not None:
        items = items.join(item_ids.to_frame("item"), on="item", how="semi")
        counts["items without features"] = len(item_ids) - items.height
        rows = _codes(items["item"], item_ids).to_numpy() + 1
        category[rows], categories = _encode(items["category"])
        titles[rows] = items["title"].fill_null("").str.slice(0, MAX_TITLE).to_list()

    return Interactions(
        name=name,
        items=events["item"].to_numpy().astype(np.int32),
        offsets=np.searchsorted(events["user"].to_numpy(), np.arange(len(user_ids) + 1)).astype(np.int64),
        profile=profile,
        attributes=attributes,
        category=category,
        categories=categories,
        user_ids=np.array(user_ids.cast(pl.String).to_list(), str),
        item_ids=np.array(["", *item_ids.cast(pl.String)], str),
        titles=titles.astype(str),
        split=events["split"].to_numpy().astype(np.int8) if "split" in order else None,
        counts=counts,
    )


def natural_order(values: pl.Series) -> pl.Series:
    """Distinct values: texts by number where all are integers or integer ranges (20-29), else alphabetically."""
    values = values.unique()
    if values.dtype.is_integer():
        return values.sort()
    number = values.str.extract(r"^([0-9]{1,18})(?:-[0-9]+)?$").cast(pl.Int64)
    if number.has_nulls():
        return values.sort()
    return pl.DataFrame({"number": number, "text": values}).sort("number", "text")["text"]


def decades(ages: pl.Series) -> pl.Series:
    """Ages in years (number or numeric text) -> the text of their decade, 24 -> 20-29; null, blank and absurd become null."""
    years = pl.col(ages.name).cast(pl.Float64, strict=False)
    first = ages.to_frame().select(pl.when(years.abs() < 1e15).then((years / 10).floor() * 10).cast(pl.Int64)).to_series()
    return pl.select(pl.format("{}-{}", first, first + 9)).to_series().alias(ages.name)


def _codes(values: pl.Series, vocabulary: pl.Series | list[str]) -> pl.Series:
    if values.dtype.is_integer():
        return vocabulary.search_sorted(values).alias(values.name)
    return values.cast(pl.Enum(vocabulary)).to_physical().cast(pl.Int64)


def _encode(values: pl.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    values = values.replace("", None).fill_null(UNKNOWN)
    vocabulary = (UNKNOWN, *natural_order(values.filter(values != UNKNOWN)))
    return _codes(values, list(vocabulary)).to_numpy(), vocabulary
