"""The raw formats read once more, a line at a time in plain Python: what the readers' results are held against.

Each parser takes {file name: bytes} and returns a Naive, or None for files that must be refused.
"""

import math
import re
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

BLANKS = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
WHOLE = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Naive(NamedTuple):
    """user -> items in order; user -> {attribute: value}; item -> category; what is not known is left out."""

    sequences: dict
    profiles: dict
    categories: dict


class Refused(Exception):
    pass


def need(condition):
    if not condition:
        raise Refused


def rows(files, name, separator, encoding="utf-8", columns=None):
    """A list of {column: text}; without `columns` the first line has them."""
    need(name in files and files[name].endswith(b"\n"))
    found = []
    for number, line in enumerate(files[name][:-1].split(b"\n")):
        if encoding == "utf-8" and not number:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            raise Refused from None
        if columns is None:
            columns = [name.strip() for name in text.split(separator)]
            need(len(set(columns)) == len(columns))
            continue
        fields = text.split(separator)
        need(len(fields) == len(columns) and "\0" not in text)
        found.append(dict(zip(columns, (field.strip(BLANKS) for field in fields), strict=True)))
    need(found)
    return columns, found


def whole(text):
    need(WHOLE.fullmatch(text) and -(1 << 63) <= int(text) < 1 << 63)
    return int(text)


def number(text):
    need(NUMBER.fullmatch(text) and math.isfinite(float(text)))
    return float(text)


def time(text):
    """A time to the last digit."""
    number(text)
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal(float(text))


def identity(text):
    need(0 < len(text) <= 128)
    return text


def decade(text):
    if not text or abs(number(text)) >= 1e15:
        return None
    first = math.floor(number(text) / 10) * 10
    return f"{first}-{first + 9}"


def by_id(found, column, make=identity):
    keys = [make(row[column]) for row in found]
    need(len(set(keys)) == len(keys))
    return dict(zip(keys, found, strict=True))


def sequences(events):
    """(user, item, time) in the order of the file -> user -> items by time."""
    need(events)
    ordered = {}
    for user, item, _ in sorted(events, key=lambda event: event[2]):
        ordered.setdefault(user, []).append(item)
    return ordered


def naive(events, users, items, attributes, category):
    ordered = sequences(events)
    met = {item for of_user in ordered.values() for item in of_user}
    profiles = {
        user: {name: value for name, of in attributes.items() if (value := of(users[user])) not in (None, "", "unknown")}
        for user in ordered
        if user in users
    }
    categories = {item: value for item in met if item in items and (value := category(items[item])) not in (None, "", "unknown")}
    return Naive(ordered, profiles, categories)


def as_text(*columns):
    return {name: lambda row, name=name: row[name] for name in columns}


def aliec(files):
    sample, feature, profile = "raw_sample.csv", "ad_feature.csv", "user_profile.csv"
    header, log = rows(files, sample, ",")
    need(header == ["user", "time_stamp", "adgroup_id", "pid", "nonclk", "clk"])
    header, ads = rows(files, feature, ",")
    need(header == ["adgroup_id", "cate_id", "campaign_id", "customer", "brand", "price"])
    header, users = rows(files, profile, ",")
    attributes = ["cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level", "occupation"]
    attributes += ["new_user_class_level"]
    need(header == ["userid", *attributes])
    need(all(row["clk"] in "01" and row["clk"] for row in log))
    events = [(whole(row["user"]), whole(row["adgroup_id"]), time(row["time_stamp"]), row["clk"]) for row in log]
    clicks = [event[:3] for event in events if event[3] == "1"]
    users, ads = by_id(users, "userid", whole), by_id(ads, "adgroup_id", whole)
    return naive(clicks, users, ads, as_text(*attributes), lambda row: row["cate_id"])


def cikm(files):
    _, log = rows(files, "user_behavior.csv", ",", columns=["user", "item", "behaviour", "time"])
    _, users = rows(files, "user.csv", ",", columns=["user", "gender", "age", "purchase_level"])
    _, items = rows(files, "item.csv", ",", columns=["item", "category", "shop", "brand"])
    need(all(row["behaviour"] in ("pv", "fav", "cart", "buy") for row in log))
    need(all(row["gender"] in ("0", "1", "") for row in users))
    for row in users:
        row["age"] = decade(row["age"])
    events = [(whole(row["user"]), whole(row["item"]), time(row["time"])) for row in log]
    attributes = as_text("gender", "age", "purchase_level")
    return naive(events, by_id(users, "user", whole), by_id(items, "item", whole), attributes, lambda row: row["category"])


GENRES = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
]


def ml_100k(files):
    _, log = rows(files, "u.data", "\t", "latin-1", ["user", "item", "rating", "time"])
    _, users = rows(files, "u.user", "|", "latin-1", ["user", "age", "gender", "occupation", "zip"])
    _, items = rows(files, "u.item", "|", "latin-1", ["item", "title", "released", "video", "url", *GENRES])
    for row in users:
        row["age"] = decade(row["age"])
    need(all(row[genre] in ("0", "1") for row in items for genre in GENRES))
    users, items = by_id(users, "user"), by_id(items, "item")
    for row in log:
        number(row["rating"])
        need(row["user"] in users and row["item"] in items)
    if "u.info" in files:
        counts = {"users": len(users), "items": len(items), "ratings": len(log)}
        for row in rows(files, "u.info", " ", "latin-1", ["count", "what"])[1]:
            need(row["count"] == str(counts.get(row["what"])))

    def category(row):
        return next((genre for genre in GENRES if row[genre] == "1"), None)

    events = [(row["user"], row["item"], time(row["time"])) for row in log]
    return naive(events, users, items, as_text("age", "gender", "occupation"), category)


def ml_1m(files):
    _, log = rows(files, "ratings.dat", "::", "latin-1", ["user", "item", "rating", "time"])
    _, users = rows(files, "users.dat", "::", "latin-1", ["user", "gender", "age", "occupation", "zip"])
    _, items = rows(files, "movies.dat", "::", "latin-1", ["item", "title", "genres"])
    ages = {"1": "0-17", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56-99"}
    for row in users:
        need(row["age"] in ages and row["occupation"] in map(str, range(21)))
        row["age"] = ages[row["age"]]
    users, items = by_id(users, "user"), by_id(items, "item")
    for row in log:
        number(row["rating"])
        need(row["user"] in users and row["item"] in items)
    events = [(row["user"], row["item"], time(row["time"])) for row in log]
    return naive(events, users, items, as_text("age", "gender"), lambda row: row["genres"].split("|")[0])


def parsed(parser, files) -> Naive | None:
    try:
        return parser(files)
    except Refused:
        return None
