"""Tables of events, users and items -> Interactions."""

import math
from collections.abc import Collection

import numpy as np
import polars as pl

from prec_backdoor.data.interactions import UNKNOWN, Interactions
from prec_backdoor.data.times import exact
from prec_backdoor.errors import UserError

MAX_TITLE = 256  # characters; titles are kept in an array as wide as the longest


def to_interactions(
    name: str,
    events: pl.DataFrame,
    users: pl.DataFrame | None = None,
    items: pl.DataFrame | None = None,
    counts: dict[str, int] | None = None,
    notes: dict[str, str] | None = None,
) -> Interactions:
    """Returns the dataset of the tables: each user's events by time, ties in the order given.

    Codes follow the natural order of the raw texts, so every copy of a dataset gets the same ones. Users and items without an
    event are dropped; a value that is blank, or of a user or item that is not listed, is unknown.

    Args:
      name: of the dataset.
      events: columns user, item (texts, or whole numbers, which take less memory) and, optionally, time (numbers or dates) and
        split (see Interactions), which orders before time. Without both the rows are in order.
      users: column user without duplicates; every other column (text) is a profile attribute.
      items: columns item without duplicates, category and title (text).
      counts, notes: see Interactions; the numbers of users and items that are not listed are added to the counts.

    Raises:
      UserError: no event, a column that is missing, not known or of another type, a duplicate.
    """
    _check_tables(name, events, users, items)
    counts = dict(counts or {})
    user_ids, item_ids = natural_order(events["user"]), natural_order(events["item"])
    user, item = (_codes(events[column], ids) for column, ids in (("user", user_ids), ("item", item_ids)))
    order = [column for column in ("split", "time") if column in events.columns]
    events = _sorted(events.select(user, item + 1, *order), ["user", *order])

    profile, attributes = np.zeros((len(user_ids), 0), np.int32), {}
    if users is not None:
        users = users.join(user_ids.to_frame("user"), on="user", how="semi")
        counts["users without a profile"] = len(user_ids) - users.height
        profile, attributes = _profiles(users, user_ids)
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
        notes=dict(notes or {}),
    )


def _profiles(users: pl.DataFrame, user_ids: pl.Series) -> tuple[np.ndarray, dict[str, tuple[str, ...]]]:
    """`profile` and `attributes` of Interactions, of users that are all in `user_ids`."""
    rows, attributes = _codes(users["user"], user_ids).to_numpy(), {}
    profile = np.zeros((len(user_ids), users.width - 1), np.int32)
    for column, attribute in enumerate(users.drop("user").columns):
        profile[rows, column], attributes[attribute] = _encode(users[attribute])
    return profile, attributes


def _sorted(events: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """The events by these columns, ties in the order given; by one number made of all of them where it fits in int64: faster."""
    ends = [(events[column].min(), events[column].max()) for column in columns]
    if not all(events[column].dtype.is_integer() for column in columns):
        return events.sort(*columns, maintain_order=True)
    widths = [high - low + 1 for low, high in ends]
    if math.prod(widths) >= 2**63 or any(high >= 2**63 for _, high in ends):
        return events.sort(*columns, maintain_order=True)
    key = pl.lit(0, pl.Int64)
    for column, (low, _), width in zip(columns, ends, widths, strict=True):
        key = key * width + (pl.col(column).cast(pl.Int64) - low)
    return events.with_columns(key.alias("#key")).sort("#key", maintain_order=True).drop("#key")


def rated_name(name: str, min_rating: float | None) -> str:
    """Returns the name of a dataset whose interactions have ratings of at least `min_rating`, as in ml-1m-rated-4."""
    return name if min_rating is None else f"{name}-rated-{repr(float(min_rating)).removesuffix('.0')}"


def rated_interactions(
    name: str, events: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame, min_rating: float | None
) -> Interactions:
    """Returns the dataset of MovieLens tables whose events have columns rating (number) and time (text) too.

    Raises:
      UserError: no rating is at least `min_rating`.
    """
    counts, notes = {}, {"order": "time", "category": "the first genre"}
    if min_rating is not None:
        rows = events.height
        events = events.filter(pl.col("rating") >= min_rating)
        if events.is_empty():
            raise UserError(f"dataset {name}: none of its {rows} ratings is at least {min_rating:g}; lower --min_rating")
        counts = {"rows read": rows, "rows below --min_rating": rows - events.height}
        notes = {"counted": f"rating >= {min_rating:g}"} | notes
    events = events.select("user", "item", exact(events["time"]))
    return to_interactions(rated_name(name, min_rating), events, users, items, counts, notes)


def _check_tables(name: str, events: pl.DataFrame, users: pl.DataFrame | None, items: pl.DataFrame | None) -> None:
    """Raises a UserError for tables that to_interactions does not take."""
    _check_columns(f"dataset {name}: events", events.columns, ("user", "item"), ("time", "split"))
    if users is not None:
        _check_columns(f"dataset {name}: users", users.columns, ("user",), None)
    if items is not None:
        _check_columns(f"dataset {name}: items", items.columns, ("item", "category", "title"))
    for table, key in ((users, "user"), (items, "item")):
        for column in () if table is None else table.drop(key):
            if column.dtype != pl.String:
                raise UserError(f"dataset {name}: column {column.name} must hold texts, got {column.dtype}; convert it")
    if events.is_empty():
        raise UserError(f"dataset {name}: no interaction is left; get the files again")
    if "time" in events.columns and not (events["time"].dtype.is_numeric() or events["time"].dtype.is_temporal()):
        raise UserError(f"dataset {name}: the times of events must be numbers or dates, got {events['time'].dtype}; convert them")
    if "time" in events.columns and events["time"].dtype.is_float() and not events["time"].is_finite().all():
        raise UserError(f"dataset {name}: the times of events must be finite, got {events['time'].dtype} that are not; mend them")
    for what, table, keys in (("events", events, events.columns), ("users", users, ["user"]), ("items", items, ["item"])):
        for key in keys if table is not None else ():
            if table[key].has_nulls():
                raise UserError(f"dataset {name}: column {key} of {what} has nulls; leave these rows out")
            if key in ("user", "item") and not (table[key].dtype == events[key].dtype and _is_id(table[key].dtype)):
                raise UserError(
                    f"dataset {name}: {key} ids must be texts or whole numbers alike in all tables, "
                    f"got {table[key].dtype} in {what}; convert them"
                )
            if what != "events" and table[key].is_duplicated().any():
                raise UserError(f"dataset {name}: {what} lists a {key} twice; keep one row")


def _is_id(dtype: pl.DataType) -> bool:
    return dtype == pl.String or dtype.is_integer()


def _check_columns(where: str, found: list[str], needed: Collection[str], optional: Collection[str] | None = ()) -> None:
    """Raises a UserError for a column that lacks, or that is neither needed nor optional (None: all others are)."""
    missing = [column for column in needed if column not in found]
    unknown = [column for column in found if optional is not None and column not in (*needed, *optional)]
    if missing or unknown:
        known = ", ".join((*needed, *(optional or ("any attribute",))) if optional != () else needed)
        fault = f"lack {missing[0]!r}" if missing else f"have an unknown column {unknown[0]!r}"
        raise UserError(f"{where} {fault}; the columns must be {known}: rename or drop the others")


def natural_order(values: pl.Series) -> pl.Series:
    """Returns the distinct values: texts by number where all are integers or integer ranges (20-29), else alphabetically."""
    values = values.unique()
    if values.dtype.is_integer():
        return values.sort()
    number = values.str.extract(r"^([0-9]{1,18})(?:-[0-9]+)?$").cast(pl.Int64)
    if number.has_nulls():
        return values.sort()
    return pl.DataFrame({"number": number, "text": values}).sort("number", "text")["text"]


def decades(ages: pl.Series) -> pl.Series:
    """Returns the decades of ages in years (numbers or their texts), 24 -> 20-29; null for null, blank and beyond 1e15."""
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
