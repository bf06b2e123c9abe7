import polars as pl
import pytest

from prec_backdoor.data import checks, lines
from prec_backdoor.errors import UserError


def write(tmp_path, content):
    path = tmp_path / "some.file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return lines.File(path)


@pytest.mark.parametrize("text", ["x", "", "nan", "inf", "1_0"])
def test_numbers_are_finite(tmp_path, text):
    path = write(tmp_path, f"1,a\n{text},b\n")
    with pytest.raises(UserError, match=rf"some\.file, line 2: expected a number as age, found '{text}'"):
        checks.numbers(lines.read_fields(path, ",", ("age", "b")), path, "age")


def test_blank_numbers_where_allowed(tmp_path):
    path = write(tmp_path, "1,a\n,b\n")
    frame = checks.numbers(lines.read_fields(path, ",", ("age", "b")), path, "age", blank=True)
    assert frame["age"].to_list() == [1, None]


def test_id_checks(tmp_path):
    path = write(tmp_path, "1,a\n1,\n")
    frame = lines.read_fields(path, ",", ("user", "item"))
    with pytest.raises(UserError, match="line 2: expected an id as item, found ''"):
        checks.ids(frame, path, "item")
    with pytest.raises(UserError, match="line 2: expected each user once, found '1'"):
        checks.distinct_ids(frame, path, "user")
    with pytest.raises(UserError, match="line 2: expected one of the item ids in items.csv"):
        checks.known_ids(frame, path, "item", frame[:1], lines.File(tmp_path / "items.csv"))


@pytest.mark.parametrize("text", ["1.0", "", "x", "99999999999999999999"])
def test_whole_numbers(tmp_path, text):
    path = write(tmp_path, f"7,a\n{text},b\n")
    frame = lines.read_fields(path, ",", ("user", "b"))
    assert checks.whole_numbers(frame[:1], path, "user")["user"].to_list() == [7]
    with pytest.raises(UserError, match=rf"line 2: expected a whole number as user, found '{text}'"):
        checks.whole_numbers(frame, path, "user")


def test_one_of(tmp_path):
    path = write(tmp_path, "1,a\n,b\n")
    frame = lines.read_fields(path, ",", ("clk", "b"))
    checks.one_of(frame, path, "clk", ("1", ""))
    with pytest.raises(UserError, match="line 2: expected 0, 1 as clk, found ''"):
        checks.one_of(frame, path, "clk", ("0", "1"))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1.0", "2.0", "10.00"], ["1", "2", "10"]),
        (["1.0", "2"], ["1", "2"]),
        (["1.0", "guest"], ["1", "guest"]),
        (["1.0", "1.1"], ["1.0", "1.1"]),  # versions
        (["v1.0", "7"], ["v1.0", "7"]),
        (["007", "7"], ["007", "7"]),
        (["-1.0"], ["-1"]),
        (["1e+05", "x"], ["1e+05", "x"]),
        ([], []),
    ],
)
def test_whole_floats_are_whole_ids(ids, expected):
    assert checks.canonical_ids(pl.Series("item", ids, pl.String), None).to_list() == expected


@pytest.mark.parametrize("ids", [["76561198000000001.0"], ["99999", "1e+05"], ["1.23457E+11", "2"]])
def test_ids_that_lost_digits(ids):
    with pytest.raises(UserError, match=r"some\.inter: user .* is an id written as a float, which loses digits"):
        checks.canonical_ids(pl.Series("user", ids), "some.inter")
