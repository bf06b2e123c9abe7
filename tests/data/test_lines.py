import time
from collections import Counter

import polars as pl
import pytest

from prec_backdoor.data import checks, lines
from prec_backdoor.errors import UserError


def write(tmp_path, content):
    path = tmp_path / "some.file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return lines.File(path)


@pytest.mark.parametrize("separator", ["\t", "|", "::", ","])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_splits_at_every_separator_and_line_end(tmp_path, separator, end):
    path = write(tmp_path, f"1{separator} b {separator}{end}2{separator}é{separator}x{end}")
    frame = lines.read_fields(path, separator, ("a", "b", "c"))
    assert frame.rows() == [(1, "1", "b", ""), (2, "2", "é", "x")]


def test_header_names_the_columns(tmp_path):
    frame = lines.read_fields(write(tmp_path, "\ufeffuser,price \n7,1.5\n"), ",")
    assert frame.columns == [lines.LINE, "user", "price"]
    assert checks.numbers(frame, None, "price").rows() == [(2, "7", 1.5)]


def test_latin_1(tmp_path):
    frame = lines.read_fields(write(tmp_path, "1|Misérables\n".encode("latin-1")), "|", ("a", "b"), "latin-1")
    assert frame["b"][0] == "Misérables"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("1,2\n1,2", "line 2: the file looks truncated; if it is complete, add a line end"),
        ("1,2\n1,2,3\n", r"line 2: expected 2 fields separated by ',', found '1,2,3'"),
        ("1,2\n\n", "line 2: expected 2 fields"),
        (b"1,2\n1,\xff\n", "line 2: not utf-8 text"),
    ],
)
def test_complaints_name_file_and_line(tmp_path, content, message):
    with pytest.raises(UserError, match=rf"some\.file(, |: ){message}") as error:
        lines.read_fields(write(tmp_path, content), ",", ("a", "b"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("content", "message"), [("a,a\n1,2\n", "line 1: .*twice"), ("a,b\n", "no line of data")])
def test_bad_headers(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        lines.read_fields(write(tmp_path, content), ",")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        lines.read_fields(lines.File(tmp_path / "nothing"), ",", ("a",))
    with pytest.raises(UserError, match="Is a directory"):
        lines.read_fields(lines.File(tmp_path), ",", ("a",))


def test_long_texts_are_cut_in_messages(tmp_path):
    with pytest.raises(UserError) as error:
        lines.read_fields(write(tmp_path, "x" * 10_000 + "\n"), ",", ("a", "b"))
    assert len(str(error.value)) < 400


def test_a_million_lines_are_quick(tmp_path):
    path = write(tmp_path, "".join(f"{line}::{line % 3706}::5::978300760\n" for line in range(1_000_000)))
    start = time.process_time()
    frame = checks.numbers(lines.read_fields(path, "::", ("user", "item", "rating", "time")), path, "time")
    assert frame.height == 1_000_000
    assert time.process_time() - start < 10


def test_batches_hold_what_the_whole_file_holds(tmp_path, monkeypatch):
    content = "a,b\n1,é\n\ufeff2,\n" + "3,x\n" * 20
    path = write(tmp_path, content)
    whole = lines.read_fields(path, ",")
    for size in (1, 5, 11):
        monkeypatch.setattr(lines, "BATCH_BYTES", size)
        batches = list(lines.read_batches(path, ","))
        assert len(batches) > 5
        assert pl.concat(batches).equals(whole)


def test_the_only_header_allowed(tmp_path):
    path = write(tmp_path, "b,a \r\n1,2\r\n")
    assert lines.read_header(path) == "b,a "
    assert next(lines.read_batches(path, ",", header=("b", "a")))["a"].to_list() == ["2"]
    with pytest.raises(UserError, match=r"some\.file, line 1: expected the header a,b, found b,a"):
        next(lines.read_batches(path, ",", header=("a", "b")))
    with pytest.raises(UserError, match=r"empty: the file is empty"):
        (tmp_path / "empty").touch()
        lines.read_header(lines.File(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,a\0\n", r"line 1: expected text without NUL characters"),
        (b"1,2\n" + b"1" * (1 << 21) + b"\n", r"line 2: longer than 1048576 bytes; this is no file of lines"),
    ],
)
def test_what_no_text_file_holds(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(lines, "BATCH_BYTES", 4)
    with pytest.raises(UserError, match=message):
        lines.read_fields(write(tmp_path, content), ",", ("a", "b"))


def test_long_ids_and_wide_headers(tmp_path):
    path = write(tmp_path, "1," + "x" * 129 + "\n")
    with pytest.raises(UserError, match="line 1: expected up to 128 characters as b"):
        checks.ids(lines.read_fields(path, ",", ("a", "b")), path, "b")
    with pytest.raises(UserError, match="the header names 2000 columns, more than 1000"):
        lines.read_fields(write(tmp_path, ",".join(map(str, range(2000))) + "\n1\n"), ",")


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_bad_rows_are_skipped_and_counted(tmp_path, monkeypatch, size):
    monkeypatch.setattr(lines, "BATCH_BYTES", size)
    content = b"1,2,a\n1,2\n\xff,2,b\n3,4,c\n3,x,d\n,9,\0\n5,6,\n1,7,e\n5,6,f"
    file = write(tmp_path, content)._replace(skipped=Counter())
    frame = checks.numbers(lines.read_fields(file, ",", ("a", "b", "c")), file, "b")
    frame = checks.distinct_ids(checks.ids(frame, file, "c"), file, "a")
    assert frame.rows() == [(1, "1", 2, "a"), (4, "3", 4, "c")]
    assert file.skipped == {
        "some.file: no line end": 1,
        "some.file: not utf-8 text": 1,
        "some.file: not text without NUL characters": 1,
        "some.file: not 3 fields separated by ','": 1,
        "some.file: not a number as b": 1,
        "some.file: not an id as c": 1,
        "some.file: not each a once": 1,
    }


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ('1,"a, b"', ["1", "a, b"]),
        ('"1", "say ""hi""" ', ["1", 'say "hi"']),
        ('1,5" disc', ["1", '5" disc']),
        ('1,"Great" Cats', ["1", "Great Cats"]),
        ('1,""', ["1", ""]),
        ('"1","2"\r', ["1", "2"]),
    ],
)
def test_quoted_fields(tmp_path, line, fields):
    frame = lines.read_fields(write(tmp_path, f'"x","y z"\n{line}\n3,4\n'), ",", quotes=True)
    assert frame.columns == [lines.LINE, "x", "y z"]
    assert frame.rows() == [(2, *fields), (3, "3", "4")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b\n1,"2\n3",4\n', "line 2: expected each double quote closed on its line"),
        ('a,b\n1,"2",3\n', "line 2: expected 2 fields"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16 text; convert the file to UTF-8, as with iconv"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16 text"),
        ("a,b\n1,2\n".encode("utf-16-be"), "UTF-16 text"),
        ("a,b\r1,2\r", "line 1: lines end in CR alone; convert"),
        ("a,b\r1,2\n", "line 1: lines end in CR alone; convert"),
        (b"\x1f\x8b\x08\x00", "a gzip file, not text; unpack it"),
        (b"PK\x03\x04\x14", "a zip file, not text"),
        ("#line,b\n1,2\n", "line 1: the header names a column '#line'; rename"),
    ],
)
def test_other_forms_are_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        lines.read_fields(write(tmp_path, content), ",", quotes=True)


def test_the_separator_is_that_of_the_header(tmp_path):
    for header, separator in (("a\tb,c", "\t"), ("a,b", ","), ("a", "\t")):
        assert lines.guess_separator(write(tmp_path, header + "\n")) == separator
