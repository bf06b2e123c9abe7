"""Which column of a table is what: the roles that --columns names, and what the names of columns say."""

import re
from collections.abc import Mapping, Sequence

from prec_backdoor.errors import UserError

ROLES = ("user", "item", "time", "rating", "category", "title")
_TIME_WORDS = {
    "time",
    "times",
    "timestamp",
    "stamp",
    "date",
    "datetime",
    "ts",
    "at",
    "when",
    "epoch",
    "clock",
    "created",
    "updated",
}
_TIME_WORDS |= {"year", "month", "week", "day", "hour", "minute", "second", "utc"}
_TIME_ENDS = re.compile(r"(time|times|timestamp|stamp|date|datetime)(s|ms|us|ns)?$|^(time|date)")
_NO_TIME = {"candidate", "validate", "mandate", "sometimes"}
_FEEDBACK_WORDS = {"label", "labels", "rating", "ratings", "rate", "star", "stars", "score", "overall", "click", "clicks"}
_FEEDBACK_WORDS |= {"clicked", "clk", "like", "likes", "liked", "purchase", "purchased", "bought", "conversion", "feedback"}
_FEEDBACK_WORDS |= {"read", "viewed", "watched", "reward", "response"}
_USERS = (
    "user",
    "customer",
    "client",
    "member",
    "visitor",
    "account",
    "reviewer",
    "shopper",
    "buyer",
    "consumer",
    "person",
    "cust",
)
_ITEMS = ("item", "product", "article", "movie", "film", "song", "track", "book", "video", "news", "content", "game", "goods")
_ITEMS += ("offer", "listing", "app", "show", "artist", "recipe", "stock", "prod")
_NOUNS = {"user": _USERS, "item": _ITEMS}
_ENDS = ("id", "no", "number", "code", "key", "sku")
_BY_THEMSELVES = {"user": {"uid"}, "item": {"iid", "sku", "asin", "isbn"}}


def parse_columns(pairs: Sequence[str] | None) -> dict[str, str]:
    """Returns role -> column of pairs such as user=reviewer_id; a blank column is allowed for time alone.

    Raises:
      UserError: a pair of another form, an unknown role, or a role given twice.
    """
    found = {}
    for pair in pairs or ():
        role, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or role in found:
            raise UserError(f"--columns: must be distinct role=column, as in user=reviewer_id,time=date, got {pair!r}")
        found[role] = column
    return check_columns(found)


def check_columns(columns: Mapping[str, str] | None) -> dict[str, str]:
    """Returns a copy of role -> column; raises UserError for an unknown role or a blank column other than of time."""
    for role, column in (columns or {}).items():
        if role not in ROLES:
            raise UserError(f"--columns: a role must be one of {', '.join(ROLES)}, got {role!r}")
        if not column and role != "time":
            raise UserError(f"--columns: {role} needs the name of a column, as in {role}=NAME")
    return dict(columns or {})


def words(name: str) -> list[str]:
    """Returns the words of a column's name in lower case: unixReviewTime -> unix, review, time."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+", spaced.lower())


def usual_columns(names: Sequence[str], role: str) -> list[str]:
    """Returns the names of columns that are usual for ids of `role`, user or item, whatever their case and signs.

    Names such as user_id and sku come before bare nouns such as user.
    """
    bare = {name: re.sub(r"[^a-z0-9]", "", name.lower()) for name in names}
    ids = {noun + end for noun in _NOUNS[role] for end in _ENDS} | _BY_THEMSELVES[role]
    return [name for name in names if bare[name] in ids] or [name for name in names if bare[name] in _NOUNS[role]]


def is_time_like(name: str) -> bool:
    """Returns whether a name says that a column may hold times."""
    found = words(name)
    return any(word in _TIME_WORDS or (_TIME_ENDS.search(word) and word not in _NO_TIME) for word in found)


def is_moment(name: str) -> bool:
    """Returns whether a name says that a column holds the times of events, and not durations or hours of the day."""
    plain = {"time", "timestamp", "stamp", "date", "datetime", "ts", "unix", "unixtime", "epoch", "utc", "event", "created", "at"}
    return is_time_like(name) and set(words(name)) <= plain | {"s", "ms", "us", "ns"}


def is_feedback(name: str) -> bool:
    """Returns whether a name says that a column holds ratings, or flags of what a user did."""
    found = words(name)
    return not _FEEDBACK_WORDS.isdisjoint(found) and not is_time_like(name) and found[-1] not in ("id", "count", "counts", "num")


def is_age(name: str) -> bool:
    """Returns whether a name says that a column holds ages in years, and not codes of age groups."""
    return "age" in (found := words(name)) and set(found) <= {"age", "user", "in", "years", "customer", "member", "of"}
