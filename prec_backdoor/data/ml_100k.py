"""MovieLens-100K: the publisher's files (u.data, u.user, u.item), or the copy in RecBole's format."""

from collections import Counter
from pathlib import Path

import polars as pl

from prec_backdoor.data import checks, lines, recbole
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.tables import decades, rated_interactions
from prec_backdoor.errors import UserError

GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_ENCODING = "latin-1"


def read(folder: str | Path, skipped: Counter | None = None, min_rating: float | None = None) -> Interactions:
    """Returns the ratings as interactions: attributes age (decades), gender and occupation; category = the first genre.

    Both kinds of copy give the same fingerprint.

    Args:
      skipped: see `lines.File`.
      min_rating: least rating of an interaction; None takes all.

    Raises:
      UserError: a missing or malformed file (with its line), ids that the other files lack, counts other than u.info's.
    """
    folder = Path(folder)
    if (folder / "ml-100k.inter").exists() and not (folder / "u.data").exists():
        return recbole.read(folder, skipped, min_rating=min_rating)
    return _read_original(folder, skipped, min_rating)


def _read_original(folder: Path, skipped: Counter | None, min_rating: float | None) -> Interactions:
    data, user, item, info = lines.files(folder, ("u.data", "u.user", "u.item", "u.info"), skipped)
    events = lines.read_fields(data, "\t", ("user", "item", "rating", "time"), _ENCODING)
    events = checks.finite(checks.numbers(events, data, "rating"), data, "time")

    users = lines.read_fields(user, "|", ("user", "age", "gender", "occupation", "zip"), _ENCODING)
    users = checks.distinct_ids(users, user, "user")
    users = checks.numbers(users, user, "age", blank=True)
    events = checks.known_ids(events, data, "user", users, user)
    users = users.select("user", decades(users["age"]), "gender", "occupation")

    items = lines.read_fields(item, "|", ("item", "title", "released", "video", "url", *GENRES), _ENCODING)
    items = checks.distinct_ids(items, item, "item")
    for genre in GENRES:
        items = lines.refuse(items, item, genre, ~pl.col(genre).is_in(["0", "1"]), f"0 or 1 as the flag of genre {genre}")
    events = checks.known_ids(events, data, "item", items, item)
    category = pl.coalesce(pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES)

    if info.path.exists() and not skipped:
        _check_counts(info, {"users": users.height, "items": items.height, "ratings": events.height})
    return rated_interactions("ml-100k", events, users, items.select("item", "title", category=category), min_rating)


def _check_counts(info: lines.File, found: dict[str, int]) -> None:
    counts = lines.read_fields(info, " ", ("count", "what"), _ENCODING)
    for _, count, what in counts.iter_rows():
        if count != str(found.get(what)):
            raise UserError(
                f"{info}: says {lines.shorten(f'{count} {what}')}, its folder has {found.get(what)}; get the files again"
            )
