import polars as pl
import pytest

from prec_backdoor.data import read_own, times
from prec_backdoor.data.lines import File
from prec_backdoor.errors import UserError

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["1", "2.5", "2020-01-01"], times.NUMBER),
        (["2020-01-01", "2020-1-2 3:04", "x"], times.DATE),
        (["2020-01-01T00:00:00Z", "2020-01-01 00:00:00+02:00", "2020-01-01"], times.DATE_WITH_ZONE),
        (["2020-01-01", "31.12.2019", "30.12.2019"], times.DATE),
        (["2020-01-01", "", ""], times.DATE),
        (["20200101"], times.NUMBER),
        (["01/02/2020"], times.NUMBER),
        ([], times.NUMBER),
    ],
)
def test_form(texts, form):
    assert times.form_of(pl.Series("t", texts, pl.String)) == form


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01", 0),
        ("1970/1/2", 86_400 * SECOND),
        ("1970-01-01 00:01", 60 * SECOND),
        ("1970-01-01T00:00:01.5", 3 * SECOND // 2),
        ("1970-01-01 00:00:00.000000001", 1),
        ("1969-12-31 23:59:59.999999999", -1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T01:00-0130", 9_000 * SECOND),
        ("1970-01-01 00:00:00 UTC", 0),
    ],
)
def test_dates_are_nanoseconds(text, nanoseconds):
    assert times.exact(pl.Series("t", [text]), times.DATE).to_list() == [nanoseconds]


@pytest.mark.parametrize(
    "text", ["2020-02-30", "2020-13-01", "2020-01-01 24:00", "2020-01-01 10:60", "0001-01-01", "9999-12-31", "x", ""]
)
def test_dates_of_no_calendar(text):
    frame = pl.DataFrame({"#line": [2, 3], "t": ["2020-01-01", text]})
    with pytest.raises(ValueError, match=r"f, line 3: expected a date, year first \(2020-01-31 12:00:00\) as t"):
        times.check(frame, File("f"), "t", times.DATE)


def test_zones_are_given_for_all_or_none():
    frame = pl.DataFrame({"#line": [2, 3], "t": ["2020-01-01T00:00Z", "2020-01-01T00:00"]})
    with pytest.raises(ValueError, match="f, line 3: expected a date with a time zone"):
        times.check(frame, File("f"), "t", times.DATE_WITH_ZONE)
    with pytest.raises(ValueError, match="f, line 2: expected a date, year first"):
        times.check(frame, File("f"), "t", times.DATE)


@pytest.mark.parametrize(
    "rising",
    [
        ["1600000000123456788", "1600000000123456789", "1600000000123456790.0"],
        ["3", "1600000000.12345671", "1600000000.12345672"],
        ["-1e3", "0", "0.1", "1.4e9", "1400000000.5"],
        ["9007199254740992", "9007199254740992.5", "9007199254740993"],
        ["1e-400", "1e-300"],
        ["99999999999999999999", "100000000000000000000"],
    ],
)
def test_no_order_is_lost(rising):
    found = times.exact(pl.Series("t", rising)).to_list()
    assert found == sorted(set(found))


def test_equal_times_are_equal():
    assert times.exact(pl.Series("t", ["3", "3.0", "3."])).to_list() == [3, 3, 3]
    assert len(set(times.exact(pl.Series("t", ["0.50", "5e-1", ".5"])).to_list())) == 1


@pytest.mark.parametrize(
    ("numbers", "unit"),
    [
        ([1_600_000_000, 1_600_000_001], "seconds"),
        ([1_600_000_000.5], "seconds"),
        ([1_600_000_000_000], "milliseconds"),
        ([1_600_000_000_000_000], "microseconds"),
        ([1_600_000_000_000_000_000], "nanoseconds"),
        ([3, 1_600_000_000], "numbers"),
        ([20200131], "numbers"),
    ],
)
def test_units(numbers, unit):
    assert times.unit_of(pl.Series("t", numbers), times.NUMBER) == unit


def test_mixed_units():
    with pytest.raises(ValueError, match="seconds and milliseconds since 1970"):
        times.unit_of(pl.Series("t", [1_600_000_000, 1_600_000_000_000]), times.NUMBER)


ODD_DATES = ["2020.09.17", "20-09-17", "9/17/2020 1:00 PM", "17 Sep 2020", "17-Sep-20", "Sep 17 2020", "20200917T100000Z"]
ODD_DATES += ["Thu Sep 17 10:00:00 2020", "Thu, 17 Sep 2020 10:00:00 GMT", "'2020-09-17", "2020-09-17 10:00 AM"]
ODD_DATES += ["2020-09-17 10:00:00,123", "2020-09-17 10:00:00 EST", "2020-09-17T10:00:00+02", "2020-09-17T10:00:00.0000000001"]


@pytest.mark.parametrize("date", ODD_DATES)
def test_a_date_of_a_form_that_is_not_read_is_refused_whatever_the_column(tmp_path, date):
    path = tmp_path / "events.csv"
    for column in ("timestamp", "bought"):
        path.write_text(f'user_id,item_id,{column}\nu,a,"{date}"\nu,b,"{date}"\n')
        with pytest.raises(UserError, match="a date like 2020-01-31[,;].* write its values as in 2020-01-31 or"):
            read_own(path)


def test_what_looks_like_no_date():
    texts = ["1.2.3.4", "May we", "2020 cars", "march of 20", "12", "12/7", "12 oct", "1.2.345", "Sept", "A 17", "17 A"]
    assert times.share_of_dates(pl.Series(texts)) == 0


def test_digits_of_a_date_are_no_time_since_1970():
    assert times.unit_of(pl.Series([201912312359, 202001010000]), times.NUMBER) == "numbers"
    assert times.unit_of(pl.Series([201912312359, 1600000000000]), times.NUMBER) == "milliseconds"
