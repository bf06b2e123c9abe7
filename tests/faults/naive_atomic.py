"""RecBole's atomic files read once more, a line at a time in plain Python: sequences alone (see `naive`).

Which columns count as profile and category is the reader's guess, and so is the order where no column is certain to be a time.
"""

import datetime
import re
from decimal import Decimal

from .naive import BLANKS, Naive, Refused, identity, need, sequences, time

TYPES = ("token", "token_seq", "float", "float_seq")
TIMES = ("timestamp", "time", "date", "stamp")
DATE = re.compile(
    r"([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})(?:(?:T| +)([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?)?"
    r" *(Z|z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?"
)


def fields_of(line: str, separator: str) -> list[str]:
    """The fields of a line, read a character at a time; a field that begins with a quote ends with the next single one."""
    line, at, found = line.rstrip("\r"), 0, []
    while True:
        field = ""
        while '"' in line and line[at : at + 1] == " ":
            at += 1
        if line[at : at + 1] == '"':
            at += 1
            while line[at : at + 1] != '"' or line[at + 1 : at + 2] == '"':
                need(at < len(line))
                at += line[at] == '"'
                field += line[at]
                at += 1
            at += 1
        while at < len(line) and line[at] != separator:
            field += line[at]
            at += 1
        found.append(field.strip(BLANKS))
        if at >= len(line):
            return found
        at += 1


def table(data: bytes) -> list[dict[str, str]]:
    """The rows of a file as {name: text}, of which no two columns are called alike."""
    need(data.endswith(b"\n") and b"\0" not in data)
    try:
        lines = data.removeprefix(b"\xef\xbb\xbf").decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise Refused from None
    separator = "," if "," in lines[0] and "\t" not in lines[0] else "\t"
    header = [name.strip().rpartition(":") for name in fields_of(lines[0], separator)]
    need(all(name and kind in TYPES for name, _, kind in header) and len({name for name, *_ in header}) == len(header))
    rows = [fields_of(line, separator) for line in lines[1:]]
    need(rows and all(len(row) == len(header) for row in rows))
    names = [name for name, *_ in header]
    need({"user_id", "item_id"} <= set(names))
    return [dict(zip(names, row, strict=True)) for row in rows]


def whole_ids(ids: list[str]) -> list[str]:
    """Ids without .0, unless one has another fraction."""
    if any(re.fullmatch(r"[+-]?[0-9]*\.[0-9]*[1-9][0-9]*", each) for each in ids):
        return ids
    return [re.sub(r"^([+-]?[0-9]+)\.0+$", r"\1", each) for each in ids]


def moment(text: str) -> int | None:
    """Nanoseconds since 1970 of a date; None for another text."""
    match = DATE.fullmatch(text)
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
        date = datetime.datetime(year, month, day, hour, minute, second)
    except (AttributeError, ValueError):
        return None
    zone = re.fullmatch(r"([+-])([0-9]{2}):?([0-9]{2})", match[8] or "")
    away = zone and datetime.timedelta(hours=int(zone[2]), minutes=int(zone[3])) * (1 if zone[1] == "+" else -1)
    passed = date - (away or datetime.timedelta()) - datetime.datetime(1970, 1, 1)
    return (passed.days * 86_400 + passed.seconds) * 10**9 + int((match[7] or "").ljust(9, "0"))


def ordered(texts: list[str]) -> list[Decimal | int]:
    """The times of a column: dates where most are, else numbers."""
    if sum(bool(DATE.fullmatch(text)) for text in texts) * 2 <= len(texts):
        return [time(text) for text in texts]
    found = [moment(text) for text in texts]
    need(None not in found)
    return found


def recbole(files: dict[str, bytes]) -> Naive:
    need("shop.inter" in files)
    log = table(files["shop.inter"])
    events = {name: [row[name] for row in log] for name in log[0]}
    users, items = (whole_ids([identity(each) for each in events[name]]) for name in ("user_id", "item_id"))
    column = next((name for name in TIMES if name in events), None) or _by_values(events)
    times = ordered(events[column]) if column else [0] * len(log)
    return Naive(sequences(list(zip(users, items, times, strict=True))), {}, {})


def _by_values(events: dict[str, list[str]]) -> str | None:
    """The column whose values are all dates."""
    return next((name for name, texts in events.items() if all(map(DATE.fullmatch, texts))), None)


def benchmark(files: dict[str, bytes]) -> Naive:
    """Each row's list and item are looked for in the sequence that the rows of a user make, whatever their order."""
    rows = {}
    for name in ("shop.train.inter", "shop.valid.inter", "shop.test.inter"):
        for row in table(files[name]) if name in files else ():
            if "item_id_list" not in row:
                raise Refused
            history = [identity(each) for each in row["item_id_list"].split()]
            rows.setdefault(identity(row["user_id"]), []).append((history, identity(row["item_id"])))
    need(rows)
    events = [(user, item) for user, of_user in rows.items() for item in _grown(of_user)]
    users, items = (whole_ids(list(each)) for each in zip(*events, strict=True))
    return Naive(sequences(list(zip(users, items, range(len(users)), strict=True))), {}, {})


def _grown(rows: list[tuple[list[str], str]]) -> list[str]:
    wholes = [[*history, last] for history, last in rows]
    longest = max(wholes, key=len)
    if all(longest[: len(whole)] == whole for whole in wholes):
        return longest
    most, found = max(len(history) for history, _ in rows), []
    distinct = [row for at, row in enumerate(rows) if row not in rows[:at]]
    for history, last in distinct:
        sequence, left = [*history, last], [row for row in distinct if row != (history, last)]
        while follows := [row for row in left if row[0] == sequence[-min(most, len(sequence)) :]]:
            sequence.append(follows[0][1])
            left.remove(follows[0])
        if not left and sequence not in found:
            found.append(sequence)
    need(len(found) == 1)
    return found[0]
