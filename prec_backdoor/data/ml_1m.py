"""MovieLens-1M: the publisher's files ratings.dat, users.dat and movies.dat."""

from collections import Counter
from pathlib import Path

import polars as pl

from prec_backdoor.data import checks, lines
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.tables import rated_interactions

# Codes of the dataset's README; the age codes are lower ends.
AGES = {"1": "0-17", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56-99"}
OCCUPATIONS = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service"),
    *("doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer"),
    *("retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman"),
    *("unemployed", "writer"),
)
_ENCODING = "latin-1"


def read(folder: str | Path, skipped: Counter | None = None, min_rating: float | None = None) -> Interactions:
    """Returns the ratings as interactions: attributes age (ranges), gender and occupation; category = the first genre.

    Args:
      skipped: see `lines.File`.
      min_rating: least rating of an interaction; None takes all.

    Raises:
      UserError: a missing or malformed file (with its line), ids that the other files lack.
    """
    ratings, user, movie = lines.files(folder, ("ratings.dat", "users.dat", "movies.dat"), skipped)
    events = lines.read_fields(ratings, "::", ("user", "item", "rating", "time"), _ENCODING)
    events = checks.finite(checks.numbers(events, ratings, "rating"), ratings, "time")

    users = lines.read_fields(user, "::", ("user", "gender", "age", "occupation", "zip"), _ENCODING)
    users = checks.distinct_ids(users, user, "user")
    occupations = {str(code): name for code, name in enumerate(OCCUPATIONS)}
    for column, names in (("age", AGES), ("occupation", occupations)):
        users = lines.refuse(users, user, column, ~pl.col(column).is_in(list(names)), f"an {column} code of {', '.join(names)}")
    events = checks.known_ids(events, ratings, "user", users, user)
    users = users.select("user", pl.col("age").replace_strict(AGES), "gender", pl.col("occupation").replace_strict(occupations))

    items = lines.read_fields(movie, "::", ("item", "title", "genres"), _ENCODING)
    items = checks.distinct_ids(items, movie, "item")
    events = checks.known_ids(events, ratings, "item", items, movie)
    items = items.select("item", "title", category=pl.col("genres").str.split("|").list.first())
    return rated_interactions("ml-1m", events, users, items, min_rating)
