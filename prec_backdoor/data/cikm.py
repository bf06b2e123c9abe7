"""CIKM Cup 2019 "EComm AI": the publisher's user_behavior.csv, user.csv and item.csv, which have no header lines."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from prec_backdoor.data import checks, lines, times
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.tables import decades, to_interactions
from prec_backdoor.errors import UserError

SOURCE = "'CIKM Cup 2019 EComm AI' at https://tianchi.aliyun.com, with a login"
BEHAVIOURS = ("pv", "fav", "cart", "buy")


def read(folder: str | Path, skipped: Counter | None = None, behaviours: Sequence[str] | None = None) -> Interactions:
    """Returns the chosen behaviours (all by default) as interactions: attributes gender, age (decades) and purchase_level.

    The files are read in batches of lines, and memory holds the chosen rows alone. A blank value is unknown.

    Args:
      skipped: see `lines.File`.

    Raises:
      UserError: unknown behaviours, a missing or malformed file (with its line), an item or user listed twice, no row of the
        chosen behaviours.
    """
    name, behaviours = dataset_name(behaviours), behaviours or BEHAVIOURS
    log, user, item = lines.files(folder, ("user_behavior.csv", "user.csv", "item.csv"), skipped)
    users = pl.concat(_read_users(user))
    users = checks.distinct_ids(users, user, "user")
    items = pl.concat(
        checks.whole_numbers(batch, item, "item").select(lines.LINE, "item", "category")
        for batch in lines.read_batches(item, ",", ("item", "category", "shop", "brand"))
    )
    items = checks.distinct_ids(items, item, "item")

    rows, kept = 0, []
    for batch in lines.read_batches(log, ",", ("user", "item", "behaviour", "time")):
        batch = checks.one_of(batch, log, "behaviour", BEHAVIOURS)
        batch = checks.finite(checks.whole_numbers(batch, log, "user", "item"), log, "time")
        rows += batch.height
        kept.append(batch.filter(pl.col("behaviour").is_in(behaviours)).select("user", "item", "time"))
    events = pl.concat(kept)
    if events.is_empty():
        raise UserError(f"{log}: none of its {rows} rows is of --behaviours={','.join(behaviours)}; choose more of them")
    return to_interactions(
        name,
        events.with_columns(times.exact(events["time"])),
        users.drop(lines.LINE),
        items.select("item", "category", title=pl.lit("")),
        {"rows read": rows, "rows kept": events.height, "other behaviours": rows - events.height},
        {"counted": "behaviour " + ", ".join(name for name in BEHAVIOURS if name in behaviours), "order": "time"},
    )


def dataset_name(behaviours: Sequence[str] | None = None) -> str:
    """Returns the name of the dataset of these behaviours: cikm for all, otherwise as in cikm-cart-buy.

    Raises:
      UserError: an unknown behaviour, or none.
    """
    if behaviours is None:
        return "cikm"
    unknown = [name for name in behaviours if name not in BEHAVIOURS]
    if unknown or not behaviours:
        raise UserError(f"--behaviours: {', '.join(unknown) or 'an empty list'} is none of {', '.join(BEHAVIOURS)}")
    chosen = [name for name in BEHAVIOURS if name in behaviours]
    return "cikm" if len(chosen) == len(BEHAVIOURS) else "-".join(["cikm", *chosen])


def _read_users(file: lines.File):
    for batch in lines.read_batches(file, ",", ("user", "gender", "age", "purchase_level")):
        batch = checks.whole_numbers(batch, file, "user")
        batch = checks.one_of(batch, file, "gender", ("0", "1", ""))
        batch = checks.numbers(batch, file, "age", blank=True)
        yield batch.with_columns(decades(batch["age"]))
