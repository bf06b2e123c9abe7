import datetime

import polars as pl
import pytest

from prec_backdoor.data.tables import decades, natural_order, to_interactions
from prec_backdoor.errors import UserError

EVENTS = pl.DataFrame(
    {"user": ["10", "9", "10", "10", "9"], "item": ["b", "a", "c", "b", "c"], "time": [5.0, 2.0, 1.0, 5.0, 2.0]}
)
USERS = pl.DataFrame({"user": ["9", "11", "10"], "age": ["20-29", "0-9", ""], "job": ["x", "y", None]})
ITEMS = pl.DataFrame({"item": ["c", "z", "a"], "category": ["2", "3", "10"], "title": ["C", "Z", None]})


def test_orders_codes_and_drops():
    data = to_interactions("d", EVENTS, USERS, ITEMS)
    assert data.user_ids.tolist() == ["9", "10"]  # by number; 11 has no event
    assert data.item_ids.tolist() == ["", "a", "b", "c"]
    # By time; 9's tie and 10's repetition stay in file order.
    assert data.sequence(0).tolist() == [1, 3]
    assert data.sequence(1).tolist() == [3, 2, 2]
    assert data.attributes == {"age": ("unknown", "20-29"), "job": ("unknown", "x")}
    assert data.profile.tolist() == [[1, 1], [0, 0]]
    assert data.categories == ("unknown", "2", "10")
    assert data.category.tolist() == [0, 2, 0, 1]
    assert data.titles.tolist() == ["", "", "", "C"]


def test_without_users_and_items():
    data = to_interactions("d", EVENTS)
    assert data.profile.shape == (2, 0)
    assert data.categories == ("unknown",)
    assert not data.category.any()


def test_order_of_rows_in_user_and_item_tables_does_not_matter():
    expected = to_interactions("d", EVENTS, USERS, ITEMS).fingerprint
    assert to_interactions("e", EVENTS, USERS.reverse(), ITEMS.reverse()).fingerprint == expected
    assert to_interactions("e", EVENTS.reverse(), USERS, ITEMS).fingerprint != expected  # ties turn round


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["10", "9", "1", "9"], ["1", "9", "10"]),
        (["100-109", "20-29", "0-9"], ["0-9", "20-29", "100-109"]),
        (["10", "9", "x"], ["10", "9", "x"]),
        (["b", "B", "a"], ["B", "a", "b"]),
        (["07", "7"], ["07", "7"]),
        (["\u0663", "1"], ["1", "\u0663"]),
        ([], []),
    ],
)
def test_natural_order(values, expected):
    assert natural_order(pl.Series(values, dtype=pl.String)).to_list() == expected


def test_decades():
    ages = pl.Series("age", ["24", "20", "29.9", "7", "100", "", None, "1e300"])
    expected = ["20-29", "20-29", "20-29", "0-9", "100-109", None, None, None]
    assert decades(ages).to_list() == expected
    assert decades(pl.Series([30.0, None])).to_list() == ["30-39", None]


def test_whole_numbers_are_coded_as_their_texts_are():
    numbers = pl.DataFrame({"user": [10, 9, 10], "item": [300, 300, 21], "time": [2.0, 1.0, 1.0]})
    users = pl.DataFrame({"user": [10, 8], "age": ["3", "4"]})
    items = pl.DataFrame({"item": [21], "category": ["7"], "title": [""]})
    texts = [table.with_columns(pl.col("user", *other).cast(pl.String)) for table, *other in ((numbers, "item"), (users,))]
    found = to_interactions("d", numbers, users, items)
    assert found.fingerprint == to_interactions("d", *texts, items.cast({"item": pl.String})).fingerprint
    assert found.item_ids.tolist() == ["", "21", "300"]
    assert found.counts == {"users without a profile": 1, "items without features": 1}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            [EVENTS.rename({"time": "timestamp"})],
            "events have an unknown column 'timestamp'; the columns must be user, item, time",
        ),
        ([EVENTS.rename({"item": "item_id"})], "events lack 'item'"),
        ([EVENTS.cast({"time": pl.String})], "the times of events must be numbers or dates, got String"),
        ([EVENTS.with_columns(time=float("nan"))], "the times of events must be finite"),
        ([EVENTS.with_columns(time=pl.lit(None, pl.Float64))], "column time of events has nulls"),
        ([EVENTS.with_columns(user=pl.lit(None, pl.String))], "column user of events has nulls"),
        ([EVENTS, USERS.rename({"user": "user_id"})], "users lack 'user'"),
        ([EVENTS, pl.concat([USERS, USERS])], "users lists a user twice"),
        ([EVENTS, USERS.rename({"job": "in_group"})], "a profile attribute must not be called .*, got 'in_group'; rename"),
        ([EVENTS, USERS, ITEMS.rename({"category": "genre"})], "items lack 'category'"),
        ([EVENTS, USERS, ITEMS.with_columns(year=1)], "items have an unknown column 'year'"),
        ([EVENTS, USERS.with_columns(job=1)], "column job must hold texts, got Int32; convert it"),
        ([EVENTS.with_columns(user=1.5)], "user ids must be texts or whole numbers alike in all tables, got Float64 in events"),
        (
            [EVENTS, USERS.cast({"user": pl.Int64})],
            "user ids must be texts or whole numbers alike in all tables, got Int64 in users",
        ),
        ([EVENTS.clear()], "no interaction is left"),
    ],
)
def test_tables_of_other_columns_are_refused(tables, message):
    with pytest.raises(UserError, match=message):
        to_interactions("d", *tables)


def test_times_may_be_nanoseconds_dates_or_absent():
    nanoseconds = 1_600_000_000_000_000_000
    events = EVENTS.with_columns(time=nanoseconds + EVENTS["time"].cast(pl.Int64))
    expected = to_interactions("d", EVENTS).items.tolist()
    assert to_interactions("d", events).items.tolist() == expected
    dates = EVENTS.with_columns(time=pl.Series([datetime.datetime(2020, 1, 1, 0, 0, int(time)) for time in EVENTS["time"]]))
    assert to_interactions("d", dates).items.tolist() == expected
    assert to_interactions("d", EVENTS.drop("time")).items.tolist() == [1, 3, 2, 3, 2]
