import polars as pl
import pytest

from prec_backdoor.data.tables import decades, natural_order, to_interactions

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
