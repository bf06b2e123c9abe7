"""One dataset written in many odd ways is read as the same dataset, or refused where it cannot be told."""

import datetime
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from faults import naive, naive_atomic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prec_backdoor.data import recbole
from prec_backdoor.errors import UserError

EPOCH = 1_600_000_000
START = datetime.datetime(2020, 1, 31, 23, 59, 50)
GENRES = ("Drama", "Sci-Fi", "Children's", "Film-Noir")
MANY = settings(max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


def dated(unit, form):
    return lambda tick: (START + datetime.timedelta(**{unit: tick})).strftime(form)


# How the tick of a clock is written, and under which names that is read without a flag.
CLOCKS = [
    (lambda tick: f"{tick}", ("timestamp", "time")),
    (lambda tick: f"{tick}e0", ("timestamp",)),
    (lambda tick: f"{tick}.0", ("timestamp", "ts")),
    (lambda tick: f"{EPOCH + tick}", ("timestamp", "date", "unixReviewTime", "transaction_date", "rating_time")),
    (lambda tick: f"{EPOCH + tick / 8:.3f}", ("timestamp", "created")),
    (lambda tick: f"{EPOCH}.{tick:07}", ("timestamp", "event_time")),
    (lambda tick: f"{EPOCH * 1_000 + tick}", ("time_ms", "timestamp")),
    (lambda tick: f"{EPOCH * 1_000_000 + tick}", ("timestamp", "updated_at")),
    (lambda tick: f"{EPOCH * 1_000_000_000 + tick}", ("timestamp", "time_ns")),
    (lambda tick: f"{EPOCH * 1_000_000_000 + tick}.0", ("timestamp",)),
    (dated("days", "%Y-%m-%d"), ("timestamp", "date", "seen")),
    (dated("days", "%Y/%m/%d"), ("review_date",)),
    (dated("seconds", "%Y-%m-%d %H:%M:%S"), ("timestamp", "datetime", "bought_on")),
    (dated("minutes", "%Y-%m-%dT%H:%MZ"), ("timestamp", "date")),
    (dated("microseconds", "%Y-%m-%d %H:%M:%S.%f+02:00"), ("timestamp", "when")),
]


class Truth(NamedTuple):
    """The logical dataset: user -> [(tick, item)] by tick; user -> gender, age; item -> genre."""

    events: dict[str, list[tuple[int, str]]]
    people: dict[str, tuple[str, int]]
    genres: dict[str, str]


@st.composite
def truths(draw):
    kinds = (st.integers(0, 10**6).map(str), st.text("abé ,'|;-", min_size=1, max_size=6).map(str.strip).filter(bool))
    ids = [draw(st.lists(draw(st.sampled_from(kinds)), min_size=2, max_size=8, unique=True)) for _ in range(2)]
    ticks = st.lists(st.integers(0, 5_000), min_size=1, max_size=6, unique=True).map(sorted)
    events = {user: [(tick, draw(st.sampled_from(ids[1]))) for tick in draw(ticks)] for user in ids[0]}
    people = {user: (draw(st.sampled_from("FM")), draw(st.integers(18, 90))) for user in ids[0]}
    return Truth(events, people, {item: draw(st.sampled_from(GENRES)) for item in ids[1]})


class Writer:
    """Writes tables with separators, quotes, line ends, orders and more columns as drawn."""

    def __init__(self, draw):
        self.draw = draw
        self.separator = draw(st.sampled_from("\t,"))
        self.line_end, self.mark = draw(st.sampled_from(["\n", "\r\n"])), draw(st.sampled_from(["", "\ufeff"]))
        self.quotes = draw(st.sampled_from(["needed", "all", "some"]))

    def field(self, text):
        needed = self.separator in text or text.startswith('"')
        wanted = self.quotes == "all" or (self.quotes == "some" and self.draw(st.booleans()))
        return '"' + text.replace('"', '""') + '"' if needed or wanted else text

    def table(self, columns, rows):
        """Bytes of rows, whose fields are in the order of `columns`; the columns are written in another order."""
        order = self.draw(st.permutations(range(len(columns))))
        texts = [self.separator.join(self.field(row[at]) for at in order) for row in [columns, *rows]]
        return (self.mark + "".join(text + self.line_end for text in texts)).encode()


def write_inter(folder, truth, writer, time, clock, as_floats):
    """Writes the events in one file or in parts, in any order; the bytes of a single file."""
    draw = writer.draw
    rows = [
        (as_floats(user), as_floats(item), clock(tick), str(draw(st.integers(1, 5))), "likes it")
        for user, of_user in truth.events.items()
        for tick, item in of_user
    ]
    columns = [
        "user_id:token",
        "item_id:token",
        f"{time}:{draw(st.sampled_from(['token', 'float']))}",
        "stars:float",
        "text:token_seq",
    ]
    rows, parts = (
        draw(st.permutations(rows)),
        draw(st.sampled_from([["shop"], ["shop.part1", "shop.part2"], ["shop.train", "shop.test"]])),
    )
    border = draw(st.integers(1, max(1, len(rows) - 1)))
    for part, of_part in zip(
        parts, (rows[:border], rows[border:]) if len(parts) > 1 and len(rows) > 1 else (rows,), strict=False
    ):
        (folder / f"{part}.inter").write_bytes(writer.table(columns, of_part))
    return (folder / "shop.inter").read_bytes() if (folder / "shop.inter").exists() else None


def read_back(data):
    """The sequences, profiles and categories of a dataset by raw ids."""
    sequences = {str(user): data.item_ids[data.sequence(at)].tolist() for at, user in enumerate(data.user_ids)}
    profiles = {
        str(user): {name: values[code] for (name, values), code in zip(data.attributes.items(), data.profile[at], strict=True)}
        for at, user in enumerate(data.user_ids)
    }
    return (
        sequences,
        profiles,
        {item: data.categories[code] for item, code in zip(data.item_ids[1:], data.category[1:], strict=True)},
    )


@MANY
@given(data=st.data())
def test_odd_files_are_read_as_the_same_dataset(data):
    draw, truth = data.draw, data.draw(truths())
    writer, (clock, names) = Writer(draw), draw(st.sampled_from(CLOCKS))
    time = draw(st.sampled_from((*names, "moment of it")))
    of_numbers = all(each.isdigit() for each in (*truth.events, *truth.genres))
    as_floats = (lambda each: f"{each}.0") if of_numbers and draw(st.booleans()) else str
    people = [(user, gender, f"{age}{draw(st.sampled_from(['', '.0']))}") for user, (gender, age) in truth.people.items()]
    lists = draw(st.sampled_from(["{} x", "{}, x y", "['{}', 'x']", '["{}", "x y"]', "{}|x", "{}"]))
    items = [(item, f"Film {item}", lists.format(genre)) for item, genre in truth.genres.items()]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        whole = write_inter(folder, truth, writer, time, clock, as_floats)
        (folder / "shop.user").write_bytes(
            writer.table(["user_id:token", "gender:token", "age:float"], draw(st.permutations(people)))
        )
        (folder / "shop.item").write_bytes(
            writer.table(["item_id:token", "title:token_seq", "genre:token_seq"], draw(st.permutations(items)))
        )
        found = recbole.read(folder, columns=None if time in names else {"time": time})
    sequences, profiles, categories = read_back(found)
    assert sequences == {user: [item for _, item in of_user] for user, of_user in truth.events.items()}
    assert found.notes["order"].startswith(time)
    for user, (gender, age) in truth.people.items():
        assert profiles[user]["gender"] == gender
        decade = profiles[user].get("age")
        assert decade == f"{age // 10 * 10}-{age // 10 * 10 + 9}" if decade else "age (" in found.notes["left out"]
    assert categories == {item: truth.genres[item] for item in categories}
    if whole and time in naive_atomic.TIMES:
        assert naive.parsed(naive_atomic.recbole, {"shop.inter": whole}).sequences == sequences


@MANY
@given(data=st.data())
def test_a_time_under_any_name_is_used_or_refused(data):
    """Newest first, under a name that may say nothing: never read in the order of the file unless no value is a time."""
    clock, _ = data.draw(st.sampled_from([each for each in CLOCKS[3:] if each[0](0) != "0"]))
    name = data.draw(st.text("abcdeimtyT_", min_size=1, max_size=9).filter(lambda name: not name.lower().endswith("id")))
    kind = data.draw(st.sampled_from(["token", "float"]))
    rows = [f"u\ti{tick}\t{clock(tick)}" for tick in (3, 2, 1)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shop.inter").write_text("\n".join([f"user_id:token\titem_id:token\t{name}:{kind}", *rows]) + "\n")
        try:
            found = recbole.read(folder)
        except UserError as error:
            assert "--columns=time=" in str(error)
        else:
            assert found.item_ids[found.sequence(0)].tolist() == ["i1", "i2", "i3"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("kind", ["inter", "user", "item"])
def test_other_encodings_are_named(tmp_path, encoding, kind):
    texts = {"inter": "user_id:token\titem_id:token\nu\ta\n", "user": "user_id:token\nu\n", "item": "item_id:token\na\n"}
    for name, text in texts.items():
        (tmp_path / f"shop.{name}").write_bytes(text.encode(encoding if name == kind else "utf-8"))
    with pytest.raises(UserError, match=rf"shop\.{kind}: UTF-16 text; convert"):
        recbole.read(tmp_path)
