import pytest

from prec_backdoor.data import recbole
from prec_backdoor.errors import UserError


def read(folder, header, rows, **options):
    """One user's items in order, and the notes, of a file whose columns beside user and item are `header`."""
    names = ["user_id:token", "item_id:token", *header.split()]
    lines = ["\t".join(names), *("\t".join(("u", f"i{row}", *map(str, values))) for row, values in enumerate(rows, 1))]
    (folder / "shop.inter").write_text("\n".join(lines) + "\n")
    data = recbole.read(folder, **options)
    return [int(item[1:]) for item in data.item_ids[data.sequence(0)]], data


@pytest.mark.parametrize(
    ("header", "newest_first", "order"),
    [
        ("timestamp:float", [3, 2, 1], "timestamp (numbers)"),
        ("timestamp:token", ["2020-01-02 10:00:00", "2020-01-02 9:00:00", "2020-01-01"], "timestamp (dates)"),
        ("date:float", [1600010140, 1600010111, 1600010073], "date (seconds)"),
        ("date:token", ["2020-02-01", "2020-01-31", "2019-12-01"], "date (dates)"),
        ("transaction_date:token", ["2020/2/1", "2020/1/31", "2019/12/1"], "transaction_date (dates)"),
        ("time_ms:float", [1600010140123, 1600010111123, 1600010073123], "time_ms (milliseconds)"),
        ("unixReviewTime:float", [1600010140, 1600010111, 1600010073], "unixReviewTime (seconds)"),
        ("ts:token", [1600010140000000002, 1600010140000000001, 1600010140000000000], "ts (nanoseconds)"),
        ("time:float", [1.5, 1.25, 1e0], "time (numbers)"),
        ("created_at:token", ["2020-01-01T00:00:01.000000002Z", "2020-01-01T00:00:01.000000001Z", "2020-01-01T00:00:01Z"],
         "created_at (date with a time zones)"),
        ("date_clicked:float", [1600010140, 1600010111, 1600010073], "date_clicked (seconds)"),
        ("purchased_on:token", ["2020-02-01", "2020-01-31", "2019-12-01"], "purchased_on (dates)"),  # by its values
        ("when_seen:token", ["2020-02-01", "2020-01-31", "2019-12-01"], "when_seen (dates)"),
        ("session:token", ["2020-02-01", "2020-01-31", "2019-12-01"], "session (dates)"),
    ],
)  # fmt: skip
def test_the_order_is_that_of_the_times(tmp_path, header, newest_first, order):
    items, data = read(tmp_path, header, [[value] for value in newest_first])
    assert items == [3, 2, 1]
    assert data.notes["order"] == order.replace("date with a time zones", "dates with a time zone")


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "watch_time:float",
            [31.5],
            r"line 1: column watch_time may be times, but not for certain \('31.5'\); .*--columns=time=",
        ),
        ("hour:token", [23], "column hour may be times"),
        ("played:float", [1600010140], "column played may be times, but not for certain"),
        ("played:token", [1600010140123], "column played may be times, but not for certain"),
        ("reviewTime:token", ["09 13, 2009"], "column reviewTime may be times"),
        ("date:float time:float", [1, 2], "several columns may be times: date, time; name the right one by --columns=time=date"),
        ("date:token saved:float", ["2020-01-01", 1600000000], "several columns may be times: date, saved"),
        (
            "timestamp:token",
            ["13.09.2009"],
            "line 2: expected a number, or a date .*, found '13.09.2009'; write",
        ),
        ("history:token_seq", ["i1 i2"], "line 1: the lists in column history are not read; rename it to item_id_list"),
    ],
)
def test_what_may_be_a_time_is_refused(tmp_path, header, row, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, header, [row])


def test_columns_choose_the_time(tmp_path):
    rows = [[1, 30], [2, 20], [3, 10]]
    for time, expected in (("hour", [1, 2, 3]), ("date", [3, 2, 1]), ("", [1, 2, 3])):
        items, data = read(tmp_path, "hour:float date:float", rows, columns={"time": time})
        assert items == expected
    assert data.notes["order"] == "rows of the file"


def test_units_are_not_mixed(tmp_path):
    with pytest.raises(
        UserError, match="column timestamp mixes seconds and milliseconds since 1970; write all times in one unit"
    ):
        read(tmp_path, "timestamp:float", [[1600000000], [1600000000000]])


@pytest.mark.parametrize("header", ["stars:float", "review_id:float", "price:float", "review_id:token", "zip:token"])
def test_other_columns_are_no_times(tmp_path, header):
    assert read(tmp_path, header, [[5], [3]])[1].notes["order"] == "rows of the file"


@pytest.mark.parametrize(
    ("header", "values"),
    [("label:float", [1, 0]), ("rating:float", [0, 1]), ("is_click:token", ["True", "False"]), ("rating:float", [-1, 1]),
     ("label:float", [0, 1, 2]), ("label:float", [0, 0])],
)  # fmt: skip
def test_zeros_are_refused_until_one_says_what_counts(tmp_path, header, values):
    rows, name = [[value] for value in values], header.partition(":")[0]
    with pytest.raises(UserError, match=rf"{name} is 0 or less in \d of \d rows.*--min_rating=1 --columns=rating={name}"):
        read(tmp_path, header, rows)
    assert read(tmp_path, header, rows, min_rating=-1)[1].num_items == len(values)
    kept = [row for row, value in enumerate(values, 1) if value in ("True", 1, 2)]
    if not kept:
        with pytest.raises(UserError, match="none of its 2 rows has label >= 1; lower --min_rating"):
            read(tmp_path, header, rows, min_rating=1)
        return
    items, data = read(tmp_path, header, rows, min_rating=1)
    assert items == kept
    assert data.name == "shop-rated-1"
    assert data.notes["counted"] == f"{name} >= 1"
    assert data.counts["rows below --min_rating"] == len(values) - len(kept)


@pytest.mark.parametrize(
    ("header", "values"), [("rating:float", [0, 5, 3]), ("rating:float", [1, 5]), ("is_weekend:token", [0, 1])]
)
def test_other_zeros_count(tmp_path, header, values):
    assert read(tmp_path, header, [[value] for value in values])[1].num_items == len(values)


@pytest.mark.parametrize(
    ("header", "row", "options", "message"),
    [
        ("price:float", [1], {"min_rating": 1}, "line 1: no column of ratings, found user_id, item_id, price; name the one"),
        ("rating:float stars:float", [1, 2], {"min_rating": 1}, "several columns of ratings: rating, stars; name the one"),
        ("rating:float", ["good"], {"min_rating": 1}, "line 2: expected a number as rating, found 'good'"),
        ("rating:float", [1], {"columns": {"rating": "rating"}}, "--columns=rating=rating needs --min_rating"),
        (
            "rating:float",
            [1],
            {"columns": {"rater": "rating"}},
            "a role must be one of user, item, time, rating, category, title",
        ),
        ("rating:float", [1], {"columns": {"user": ""}}, "user needs the name of a column"),
    ],
)
def test_complaints_on_ratings(tmp_path, header, row, options, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, header, [row], **options)


def test_a_blank_does_not_hide_a_time(tmp_path):
    rows = [["2020-02-01"], ["2020-01-31"], [""]]
    with pytest.raises(UserError, match="line 4: expected a date, year first .* as date, found ''"):
        read(tmp_path, "date:token", rows)
    with pytest.raises(UserError, match="column session may be times, but not for certain"):
        read(tmp_path, "session:token", rows)
