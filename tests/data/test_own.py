"""Own data: 60 kinds of odd or wrong input, each read right or refused in one line; round trips; frames; the overview."""

import datetime
import gzip
import json
import tempfile
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prec_backdoor.data import from_frame, lines, read_own
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.own import REPEATED
from prec_backdoor.data.registry import with_skipped
from prec_backdoor.data.summary import histogram, one_line, overview
from prec_backdoor.errors import UserError

EPOCH = 1_600_000_000
ROWS = "user_id,item_id,timestamp\n"


def sequences(data):
    return {str(user): data.item_ids[data.sequence(at)].tolist() for at, user in enumerate(data.user_ids)}


def write(folder, content, name="events.csv"):
    path = folder / name
    if isinstance(content, pl.DataFrame):
        content.write_parquet(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def frame(**columns):
    return pl.DataFrame(columns)


def timed(*times):
    """Rows of one user whose items a, b, .. are in the order of these times."""
    return ROWS + "".join(f"u,{chr(97 + rank)},{time}\n" for rank, time in reversed(list(enumerate(times))))


AB, ABC = {"u": ["a", "b"]}, {"u": ["a", "b", "c"]}

# What it is; the content; how it is read; the sequences.
RIGHT = [
    ("seconds", timed(EPOCH, EPOCH + 1), {}, AB),
    ("milliseconds", timed(EPOCH * 1000, EPOCH * 1000 + 1), {}, AB),
    ("microseconds", timed(EPOCH * 10**6, EPOCH * 10**6 + 1), {}, AB),
    ("nanoseconds", timed(EPOCH * 10**9, EPOCH * 10**9 + 1), {}, AB),
    ("float seconds", timed(f"{EPOCH}.25", f"{EPOCH}.5"), {}, AB),
    ("exponents", timed("1.6e9", "1.7e9"), {}, AB),
    ("plain numbers", timed(1, 2, 10), {}, ABC),
    ("ISO days", timed("2020-02-28", "2020-02-29"), {}, AB),
    ("ISO with T and Z", timed("2020-01-31T23:59:59Z", "2020-02-01T00:00:00Z"), {}, AB),
    ("ISO with zones", timed("2020-02-01T01:00:00+02:00", "2020-01-31T23:30:00+00:00"), {}, AB),
    ("ISO with fractions", timed("2020-01-31 12:00:00.1", "2020-01-31 12:00:00.11"), {}, AB),
    ("no time", "user_id,item_id\nu,b\nu,a\n", {}, {"u": ["b", "a"]}),
    ("time not wanted", timed(1, 2), {"columns": {"time": ""}}, {"u": ["b", "a"]}),
    ("equal times", ROWS + "u,b,5\nu,a,5\nu,c,5\n", {}, {"u": ["b", "a", "c"]}),
    ("repeated rows", ROWS + "u,a,5\nu,b,5\nu,a,5\nu,a,6\n", {}, {"u": ["a", "b", "a"]}),
    ("repeated rows without time", "user_id,item_id\nu,a\nu,a\n", {}, {"u": ["a", "a"]}),
    ("ids with leading zeros", ROWS + "001,01,1\n1,1,1\n", {}, {"1": ["1"], "001": ["01"]}),
    ("ids with commas", ROWS + '"u,1","a,b",1\n', {}, {"u,1": ["a,b"]}),
    ("ids with quotes", ROWS + '"say ""u""",a,1\n', {}, {'say "u"': ["a"]}),
    ("all fields quoted", '"user_id","item_id","timestamp"\n"u","b","2"\n"u","a","1"\n', {}, AB),
    ("any UTF-8", ROWS + "ünï,商品,1\nünï,🛒,2\n", {}, {"ünï": ["商品", "🛒"]}),
    ("a byte order mark", b"\xef\xbb\xbf" + timed(1, 2).encode(), {}, AB),
    ("CRLF", timed(1, 2).replace("\n", "\r\n"), {}, AB),
    ("blanks around", ROWS + " u , a ,1\nu, b,2 \n", {}, AB),
    ("tabs", timed(1, 2).replace(",", "\t"), {"name": "events.tsv"}, AB),
    ("tabs in a file called csv", timed(1, 2).replace(",", "\t"), {}, AB),
    ("semicolons", timed(1, 2).replace(",", ";"), {}, AB),
    ("bars", timed(1, 2).replace(",", "|"), {"name": "events.txt"}, AB),
    ("gzip", gzip.compress(timed(1, 2).encode()), {"name": "events.csv.gz"}, AB),
    ("gzip without its suffix", gzip.compress(timed(1, 2).encode()), {}, AB),
    ("names in capitals", timed(1, 2).replace("user_id", "USER ID").replace("item_id", "ProductID"), {}, AB),
    ("sku and customer", timed(1, 2).replace("user_id", "customer_id").replace("item_id", "sku"), {}, AB),
    ("an id before a bare noun", "user,user_id,item_id\nAnn,u,a\n", {}, {"u": ["a"]}),
    ("columns by name", "who,what,day\nu,b,2\nu,a,1\n", {"columns": {"user": "who", "item": "what", "time": "day"}}, AB),
    ("other columns", "price,user_id,item_id,shop\n1.5,u,a,x\n2,u,b,y\n", {}, AB),
    ("other order", "timestamp,item_id,user_id\n2,b,u\n1,a,u\n", {}, AB),
    ("a minimum rating", "user_id,item_id,rating\nu,a,4\nu,x,3.5\nu,b,5\n", {"min_rating": 4.0}, AB),
    ("RecBole", "user_id:token\titem_id:token\ttimestamp:float\nu\tb\t2\nu\ta\t1\n", {"name": "shop.inter"}, AB),
    (
        "JSON lines",
        '{"user_id": "u", "item_id": "b", "ts": 2}\n{"ts": 1, "item_id": "a", "user_id": "u"}\n',
        {"name": "e.jsonl"},
        AB,
    ),
    (
        "JSON lines with blank lines",
        '{"user_id": 1, "item_id": 7}\n\n{"user_id": 1, "item_id": 8}\n',
        {"name": "e"},
        {"1": ["7", "8"]},
    ),
    ("JSON lines with lists", '{"user_id": "u", "item_id": "a", "tags": [1, {"x": 2}]}\n', {"name": "e.ndjson"}, {"u": ["a"]}),
    ("JSON with escapes", '{"user_id": "\\u0075", "item_id": "a,\\"b"}\n', {"name": "e.jsonl"}, {"u": ['a,"b']}),
    ("Parquet", frame(user_id=["u", "u"], item_id=["b", "a"], timestamp=[2, 1]), {"name": "e.parquet"}, AB),
    ("Parquet without its suffix", frame(user_id=["u"], item_id=["a"]), {"name": "e.data"}, {"u": ["a"]}),
    ("Parquet numbers", frame(user_id=[1, 1], item_id=[30, 20], ts=[2.5, 1.5]), {}, {"1": ["20", "30"]}),
    ("Parquet floats as ids", frame(user_id=[1.0, 2.0], item_id=[3.0, 4.0]), {}, {"1": ["3"], "2": ["4"]}),
    (
        "Parquet dates",
        frame(user_id=["u", "u"], item_id=["b", "a"], at=[datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 1)]),
        {},
        AB,
    ),
    (
        "Parquet days",
        frame(user_id=["u", "u"], item_id=["b", "a"], day=[datetime.date(2020, 1, 2), datetime.date(1969, 1, 1)]),
        {},
        AB,
    ),
    ("Parquet categories", frame(user_id=pl.Series(["u", "u"], dtype=pl.Categorical), item_id=["a", "b"]), {}, AB),
    ("bad rows to skip", ROWS + "u,a,1\nu,,2\nu,x,soon\nu,b,3\n,x,1\nu,x\n", {"skipped": Counter()}, AB),
]

# What it is; the content; how it is read; what the line says, after the file's name.
WRONG = [
    ("empty file", "", {}, r": the file is empty; get it again"),
    ("header alone", ROWS, {}, r": no line of data follows the header; get"),
    ("no header", "17,a,5\n18,b,6\n", {}, r", line 1: no column of user ids, found 17, a, 5; name it by --columns=user=NAME"),
    ("no item", "user_id,thing\nu,a\n", {}, r", line 1: no column of item ids, found user_id, thing; name it by --columns=item="),
    (
        "two for user",
        "uid,user_id,item_id\nu,v,a\n",
        {},
        r", line 1: several columns may be the user ids: uid, user_id; name it by",
    ),
    (
        "two for item",
        "user_id,sku,item\nu,a,b\n".replace("item", "item_id"),
        {},
        r"the item ids: sku, item_id; name it by --columns=item=",
    ),
    (
        "two for time",
        "user_id,item_id,created,updated\nu,a,1,2\n",
        {},
        r"several columns may be times: created, updated; name the right",
    ),
    ("a duration", "user_id,item_id,watch_time\nu,a,31\n", {}, r"watch_time may be times, but not for certain \('31'\); name"),
    (
        "a column that is not there",
        ROWS + "u,a,1\n",
        {"columns": {"user": "uid"}},
        r", line 1: no column 'uid' for user, found .*; correct --columns",
    ),
    (
        "a time that is not there",
        ROWS + "u,a,1\n",
        {"columns": {"time": "ts"}},
        r", line 1: no column 'ts' for time, .*; correct --columns",
    ),
    (
        "one column for two",
        ROWS + "u,a,1\n",
        {"columns": {"item": "user_id"}},
        r"'user_id' for both user and item; correct --columns",
    ),
    ("blank user", ROWS + "u,a,1\n ,b,2\n", {}, r", line 3: expected an id as user_id, found ''; correct"),
    ("blank item", ROWS + "u,,1\n", {}, r", line 2: expected an id as item_id, found ''; correct"),
    ("blank time", ROWS + "u,a,1\nu,b,\n", {}, r", line 3: expected a number as timestamp, found ''; correct"),
    (
        "a time in words",
        ROWS + "u,a,1\nu,b,yesterday\n",
        {},
        r", line 3: expected a number as timestamp, found 'yesterday'; correct",
    ),
    (
        "no day of the calendar",
        timed("2020-02-28", "2021-02-29"),
        {},
        r", line 2: expected a date, year first .* found '2021-02-29'; correct",
    ),
    (
        "day first",
        timed("31/01/2020", "01/02/2020"),
        {},
        r", line 2: expected a number, or a date like 2020-01-31, as timestamp, found '01/02/2020'; write its values as in "
        r"2020-01-31 or 2020-01-31T12:00:00\+01:00, name another column by --columns=time=NAME, or keep the order of the rows by",
    ),
    (
        "day first, and bad rows to skip",
        timed("17.09.2020", "18.09.2020"),
        {"skipped": Counter()},
        r", line 2: expected a number, or a date like 2020-01-31, as timestamp, found '18.09.2020'; write its values as in",
    ),
    (
        "day first, not for certain times",
        "user_id,item_id,when\nu,a,17.09.2020\n",
        {},
        r", line 1: column when may be times, but '17.09.2020' is neither a number nor a date like 2020-01-31; write",
    ),
    (
        "day first, under another name",
        "user_id,item_id,bought\nu,a,17.09.2020 12:30\n",
        {},
        r", line 1: column bought may be times, but '17.09.2020 12:30' is neither a number nor .*; write its values as in",
    ),
    (
        "day first in most",
        timed("2020-09-17", "18.09.2020", "19.09.2020"),
        {},
        r", line 2: expected a date, year first .* as timestamp, found '19.09.2020'; write its values as in",
    ),
    (
        "no day of the calendar in any row, and bad rows to skip",
        timed("2020-30-01", "2020-31-01"),
        {"skipped": Counter()},
        r", line 2: expected a date, year first .* as timestamp, found '2020-31-01'; write its values as in",
    ),
    (
        "one day first among others",
        timed("2020-09-17", "18.09.2020", "2020-09-19"),
        {},
        r", line 3: expected a date, year first \(2020-01-31 12:00:00\) as timestamp, found '18.09.2020'; correct the line",
    ),
    (
        "zones in some",
        timed("2020-01-01", "2020-01-02", "2020-01-02T00:00Z"),
        {},
        r", line 2: expected a date, year first.*; correct",
    ),
    ("an infinite time", timed("1", "inf"), {}, r", line 2: expected a number as timestamp, found 'inf'; correct"),
    (
        "seconds and milliseconds",
        timed(EPOCH, EPOCH * 1000),
        {},
        r": column timestamp mixes seconds and milliseconds since 1970; write all",
    ),
    ("too many fields", ROWS + "u,a,1\nu,b,2,3\n", {}, r", line 3: expected 3 fields separated by ',', found 'u,b,2,3'; correct"),
    (
        "an open quote",
        ROWS + 'u,"a,1\nu,b,2\n',
        {},
        r", line 2: expected each double quote closed on its line, found .*; correct",
    ),
    ("cut off", ROWS + "u,a,1\nu,b", {}, r", line 3: the file looks truncated; if it is complete, add a line end"),
    ("CR alone", timed(1, 2).replace("\n", "\r"), {}, r", line 1: lines end in CR alone; convert"),
    ("Latin-1", (ROWS + "u,caf\xe9,1\n").encode("latin-1"), {}, r", line 2: not utf-8 text; convert"),
    ("UTF-16", timed(1, 2).encode("utf-16"), {}, r": UTF-16 text; convert"),
    ("a NUL", ROWS + "u,a\0,1\n", {}, r", line 2: expected text without NUL characters, found .*; correct"),
    ("a column twice", "user_id,item_id,user_id\nu,a,u\n", {}, r", line 1: the header names a column twice: 'user_id'; rename"),
    ("a column without a name", "user_id,item_id,\nu,a,u\n", {}, r", line 1: a column without a name, .*; name every column"),
    ("an id too long", ROWS + f"u,{'x' * 129},1\n", {}, r", line 2: expected up to 128 characters as item_id, found .*; correct"),
    (
        "ids that lost digits",
        ROWS + "1e+05,a,1\n2,b,1\n",
        {},
        r": user '1e\+05' is an id written as a float, which loses digits; write",
    ),
    ("a spreadsheet", b"PK\x03\x04" + bytes(40), {"name": "events.xlsx"}, r": a zip file, not text; unpack it or export"),
    (
        "a damaged gzip",
        gzip.compress(timed(1, 2).encode())[:30],
        {"name": "e.csv.gz"},
        r": a damaged gzip file \(.*\); get it again",
    ),
    ("a damaged Parquet", b"PAR1" + bytes(40), {"name": "e.parquet"}, r": a damaged Parquet file \(.*\); get it again"),
    ("text called Parquet", timed(1, 2), {"name": "e.parquet"}, r": not a Parquet file, whatever its name says; name it"),
    ("Parquet without rows", frame(user_id=["u"], item_id=["a"]).clear(), {"name": "e.parquet"}, r": no rows; give"),
    (
        "a null in Parquet",
        frame(user_id=["u", None], item_id=["a", "b"]),
        {"name": "e.parquet"},
        r", row 2: expected an id as user_id, found ''; correct",
    ),
    (
        "a null time in Parquet",
        frame(user_id=["u", "u"], item_id=["a", "b"], ts=[1, None]),
        {"name": "e.parquet"},
        r", row 2: expected a number as ts, found 'None'; correct",
    ),
    (
        "lists in Parquet",
        frame(user_id=["u"], items=[["a", "b"]]),
        {"name": "e.parquet", "columns": {"item": "items"}},
        r": column items holds lists; write one row an interaction",
    ),
    (
        "large float ids",
        frame(user_id=[1e17, 2.0], item_id=["a", "b"]),
        {"name": "e.parquet"},
        r": user '1e\+17' is an id written as a float, which loses",
    ),
    (
        "a JSON array",
        '[{"user_id": 1, "item_id": 2}]\n',
        {"name": "e.json"},
        r", line 1: one JSON array; write one object a line",
    ),
    (
        "bad JSON",
        '{"user_id": 1, "item_id": 2}\n{"user_id": 1,\n',
        {"name": "e.jsonl"},
        r", line 2: expected a JSON object .*, found .*; correct",
    ),
    (
        "JSON numbers alone",
        '{"user_id": 1, "item_id": 2}\n3\n',
        {"name": "e.jsonl"},
        r", line 2: expected a JSON object .*, found '3'; correct",
    ),
    (
        "a list as an id",
        '{"user_id": 1, "item_id": 2}\n{"user_id": [1], "item_id": 2}\n',
        {"name": "e.jsonl"},
        r", line 2: expected a JSON object with one value as each",
    ),
    (
        "lists as ids",
        '{"user_id": [1], "item_id": 2}\n',
        {"name": "e.jsonl"},
        r", line 1: column user_id holds lists; write one row",
    ),
    (
        "a missing key",
        '{"user_id": 1, "item_id": 2}\n{"user_id": 1}\n',
        {"name": "e.jsonl"},
        r", line 2: expected an id as item_id, found ''; correct",
    ),
    (
        "an untyped .inter",
        "user_id\titem_id\nu\ta\n",
        {"name": "e.inter"},
        r", line 1: expected NAME:TYPE, .* found 'user_id'; correct",
    ),
    (
        "a flag with zeros",
        "user_id,item_id,click\nu,a,1\nu,b,0\n",
        {},
        r", line 3: click is 0 or less in 1 of 2 rows.*--min_rating=1",
    ),
    ("no rating", ROWS + "u,a,1\n", {"min_rating": 3.0}, r", line 1: no column of ratings, found .*; name"),
    (
        "two ratings",
        "user_id,item_id,stars,score\nu,a,1,2\n",
        {"min_rating": 3.0},
        r", line 1: several columns of ratings: stars, score; name",
    ),
    (
        "a rating in words",
        "user_id,item_id,stars\nu,a,good\n",
        {"min_rating": 3.0},
        r", line 2: expected a number as stars, found 'good'; correct",
    ),
    (
        "all below",
        "user_id,item_id,stars\nu,a,2\n",
        {"min_rating": 3.0},
        r": none of its 1 rows has stars >= 3; lower --min_rating",
    ),
    (
        "a rating without its minimum",
        "user_id,item_id,stars\nu,a,2\n",
        {"columns": {"rating": "stars"}},
        r"--columns=rating=stars needs --min_rating; give",
    ),
    (
        "a category without a catalogue",
        ROWS + "u,a,1\n",
        {"columns": {"category": "genre"}},
        r"a column of the catalogue; give --catalogue=FILE",
    ),
]


def test_there_are_60_kinds():
    names = [name for name, *_ in (*RIGHT, *WRONG)]
    assert len(set(names)) == len(names) >= 100


@pytest.mark.parametrize(("content", "given", "expected"), [row[1:] for row in RIGHT], ids=[row[0] for row in RIGHT])
def test_odd_input_is_read_right(tmp_path, content, given, expected):
    given = dict(given)
    data = read_own(write(tmp_path, content, given.pop("name", "events.csv")), **given)
    assert sequences(data) == expected


@pytest.mark.parametrize(("content", "given", "expected"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong_input_is_refused_in_one_line(tmp_path, content, given, expected):
    given = dict(given)
    path = write(tmp_path, content, given.pop("name", "events.csv"))
    with pytest.raises(UserError, match=expected) as error:
        read_own(path, **given)
    message = str(error.value)
    assert "\n" not in message and ";" in message
    assert message.startswith((str(path), "--columns="))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.csv: no such file; check"):
        read_own(tmp_path / "nothing.csv")
    with pytest.raises(UserError, match="a folder, not a file; give one file, or a folder that launch.prepare_data wrote"):
        read_own(tmp_path)


def test_what_is_skipped_is_counted(tmp_path):
    path, skipped = write(tmp_path, ROWS + "u,a,1\nu,,2\nu,x,soon\nu,b,3\n,x,1\nu,x\n"), Counter()
    data = with_skipped(read_own(path, skipped=skipped), skipped)
    for shown in (overview(data), one_line(data)):
        assert "1 row skipped (events.csv: not an id as user_id); 1 row skipped (events.csv: not an id as item_id)" in shown
    assert skipped == {
        "events.csv: not 3 fields separated by ','": 1,
        "events.csv: not an id as item_id": 1,
        "events.csv: not an id as user_id": 1,
        "events.csv: not a number as timestamp": 1,
    }
    path, skipped = (
        write(tmp_path, '{"user_id": 1, "item_id": 2}\n{"user_id"\n{"user_id": [1], "item_id": 2}\n', "e.jsonl"),
        Counter(),
    )
    assert sequences(read_own(path, skipped=skipped)) == {"1": ["2"]}
    assert skipped == {"e.jsonl: not a JSON object with one value as each column": 2}


@pytest.mark.parametrize(
    ("times", "unit", "days"),
    [
        ((EPOCH, EPOCH + 86_400), "seconds", "2020-09-13 to 2020-09-14"),
        ((EPOCH * 1000, EPOCH * 1000 + 1), "milliseconds", "2020-09-13 to 2020-09-13"),
        ((EPOCH * 10**6, EPOCH * 10**6 + 1), "microseconds", "2020-09-13 to 2020-09-13"),
        ((f"{EPOCH}.25", f"{EPOCH}.75"), "seconds", "2020-09-13 to 2020-09-13"),
        (("2020-01-31", "2020-02-01"), "dates", "2020-01-31 to 2020-02-01"),
        (("2020-01-31T23:00-02:00", "2020-02-02T00:00Z"), "dates with a time zone", "2020-02-01 to 2020-02-02"),
        ((1, 2), "numbers", None),
    ],
)
def test_the_notes_say_what_was_recognised(tmp_path, times, unit, days):
    notes = read_own(write(tmp_path, timed(*times))).notes
    assert notes["order"] == f"timestamp ({unit})"
    assert notes.get("times") == days
    assert notes["columns"] == "user user_id, item item_id, time timestamp"
    typed = pl.read_csv((timed(*times)).encode(), try_parse_dates=True)
    if unit != "dates with a time zone":
        assert from_frame(typed).notes == notes


def test_more_than_one_batch(tmp_path, monkeypatch):
    texts = {
        "e.csv": ROWS + "".join(f'u{n % 7},"i,{n % 11}",{n}\n' for n in range(200)),
        "e.jsonl": "".join(
            json.dumps({"user_id": f"u{n % 7}", "item_id": f"i,{n % 11}", "timestamp": n}) + "\n" for n in range(200)
        ),
    }
    whole = {name: read_own(write(tmp_path, text, name)) for name, text in texts.items()}
    monkeypatch.setattr(lines, "BATCH_BYTES", 64)
    for name, expected in whole.items():
        found = read_own(tmp_path / name)
        assert sequences(found) == sequences(expected) == sequences(whole["e.csv"])
        assert found.counts["rows read"] == 200


PEOPLE = "uid,gender,age,zip\n" + "".join(f"u{n},{'FM'[n % 2]},{20 + n},{n}\n" for n in range(12))
ITEMS = "sku,name,Genre\n" + "".join(f"i{n},Film {n},{('Drama|War', 'Sci-Fi', '')[n % 3]}\n" for n in range(1, 9))
EVENTS = "uid,sku,ts\n" + "".join(f"u{n % 6},i{n % 8 + 1},{EPOCH + n}\n" for n in range(40))


def test_profiles_and_catalogue(tmp_path):
    paths = [write(tmp_path, text, name) for name, text in (("e.csv", EVENTS), ("p.csv", PEOPLE), ("c.csv", ITEMS))]
    data = read_own(paths[0], profiles=paths[1], catalogue=paths[2])
    assert data.attributes == {"gender": ("unknown", "F", "M"), "age": ("unknown", "20-29")}
    assert data.profile[0].tolist() == [1, 1]
    assert data.categories == ("unknown", "Drama", "Sci-Fi")
    assert data.titles.tolist() == ["", *(f"Film {n}" for n in range(1, 9))]
    assert data.notes["category"] == "Genre"
    assert data.notes["left out"] == "zip (12 values for 12 users)"
    assert data.offered.tolist() == [f"i{n}" for n in range(1, 9)]
    data.save(tmp_path / "prepared")
    assert read_own(tmp_path / "prepared").offered.tolist() == data.offered.tolist()
    more = read_own(paths[0], catalogue=write(tmp_path, f"{ITEMS}i9,Unsold,Drama\n", "more.csv"))
    assert more.num_items == data.num_items and more.offered.tolist() == [*data.offered.tolist(), "i9"]
    frames = [pl.read_csv(path) for path in paths]
    assert from_frame(frames[0], profiles=frames[1], catalogue=frames[2]).fingerprint == data.fingerprint
    ids = pl.read_csv(paths[1]).rename({"uid": "id"})  # a usual name where --columns has that of the interactions
    renamed = from_frame(frames[0].rename({"uid": "who"}), {"user": "who"}, ids, frames[2])
    assert renamed.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("profiles", "catalogue", "expected"),
    [
        ("uid,job\nu1,a\nu1,b\n", None, r"p\.csv, line 3: expected each uid once, found 'u1'; correct"),
        ("uid,job\nx,a\n", None, r"p\.csv: none of its ids is in e\.csv \('x' here, 'u0' there\); write ids alike"),
        ("name,job\nx,a\n", None, r"p\.csv, line 1: no column of user ids, found name, job; rename the right one to user_id"),
        ("uid,users\nu1,a\n", None, r"p\.csv, line 1: a profile attribute must not be called .*; rename"),
        (None, "sku,title\ni1,a\ni1,b\n", r"c\.csv, line 3: expected each sku once, found 'i1'; correct"),
        (None, "sku,title\nI1,a\n", r"c\.csv: none of its ids is in e\.csv"),
        (None, "sku,item_id\ni1,a\n", r"c\.csv, line 1: several columns may be the item ids: sku, item_id; rename the right one"),
    ],
)
def test_wrong_profiles_and_catalogues(tmp_path, profiles, catalogue, expected):
    events = write(tmp_path, EVENTS, "e.csv")
    given = {
        "profiles": profiles and write(tmp_path, profiles, "p.csv"),
        "catalogue": catalogue and write(tmp_path, catalogue, "c.csv"),
    }
    with pytest.raises(UserError, match=expected):
        read_own(events, **given)


def test_a_prepared_folder_is_read_back(tmp_path):
    data = read_own(write(tmp_path, EVENTS, "shop.csv"))
    data.save(tmp_path / "shop")
    again = read_own(tmp_path / "shop")
    assert (again.fingerprint, again.notes, again.counts) == (data.fingerprint, data.notes, data.counts)
    with pytest.raises(UserError, match=r"is prepared; leave out --columns"):
        read_own(tmp_path / "shop", {"user": "uid"})


# Round trips

MANY = settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
ids = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n", exclude_categories=("Cs",)), min_size=1, max_size=8)
ids = st.one_of(ids.map(str.strip), st.integers(0, 10**4).map(str), st.integers(0, 99).map("{:04}".format)).filter(
    lambda text: text and text == pl.Series([text]).str.strip_chars()[0] and not text.endswith(("+0", ".0"))
)


@MANY
@given(st.lists(st.tuples(ids, ids, st.integers(EPOCH, EPOCH + 50)), min_size=1, max_size=25), st.data())
def test_round_trips(rows, data):
    rows = list(dict.fromkeys(rows))
    expected = {}
    for user, item, _ in sorted(rows, key=lambda row: row[2]):
        expected.setdefault(user, []).append(item)
    table = pl.DataFrame(rows, ("user_id", "item_id", "time"), orient="row")
    if pl.concat([table["user_id"], table["item_id"]]).str.contains(r"\.0+$|\+[0-9]+$").any():
        return  # whole numbers as a table program writes them
    unit = data.draw(st.sampled_from([1, 1000, 10**6]))
    table = table.with_columns(pl.col("time") * unit).select(data.draw(st.permutations(table.columns)))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        separator, end = data.draw(st.sampled_from(",;|\t")), data.draw(st.sampled_from(["\n", "\r\n"]))
        style = data.draw(st.sampled_from(["necessary", "always", "non_numeric"]))
        table.write_csv(folder / "a.csv", separator=separator, quote_style=style, line_terminator=end)
        table.write_ndjson(folder / "a.jsonl")
        table.write_parquet(folder / "a.parquet")
        for path in sorted(folder.iterdir()):
            assert sequences(read_own(path)) == expected, path
    assert sequences(from_frame(table)) == expected


# Frames


class LikePandas:
    """What is used of a frame of pandas, which is not installed here."""

    class Column:
        def __init__(self, values, dtype):
            self.values, self.dtype = values, dtype

        def tolist(self):
            return list(self.values)

        def to_numpy(self):
            return np.array(self.values, self.dtype)

        def isna(self):
            return np.array([value is None or value != value for value in self.values])

    def __init__(self, **columns):
        self._columns, self.columns = columns, list(columns)

    def __getitem__(self, name):
        return self.Column(*self._columns[name])


def test_frames_of_pandas():
    days = [np.datetime64("2020-01-02"), np.datetime64("2020-01-01"), np.datetime64("2020-01-03")]
    data = from_frame(
        LikePandas(user_id=(["u", "u", "v"], "object"), item_id=([2, 1, 1], "int64"), at=(days, "datetime64[ns]")),
        profiles=LikePandas(user_id=(["u", "v"], "object"), job=([float("nan"), "cook"], "object")),
    )
    assert sequences(data) == {"u": ["1", "2"], "v": ["1"]}
    assert data.notes["order"] == "at (dates)"
    assert data.attributes == {"job": ("unknown", "cook")} and data.profile.tolist() == [[0], [1]]


def test_nan_is_null(tmp_path):
    """In frames and in JSON lines: no item of that name, and no age."""
    with pytest.raises(UserError, match=r"frame, row 2: expected an id as item_id, found ''; correct"):
        from_frame({"user_id": [1, 1], "item_id": [2.0, float("nan")]})
    path = write(tmp_path, '{"user_id": 1, "item_id": 2}\n{"user_id": 1, "item_id": NaN}\n', "shop.jsonl")
    with pytest.raises(UserError, match=r"line 2: expected an id as item_id, found ''; correct"):
        read_own(path)
    profiles = {"user_id": [1, 2, 3], "age": [23.0, float("nan"), 41.5]}
    data = from_frame({"user_id": [1, 2, 3], "item_id": ["a", "b", "c"]}, profiles=profiles)
    assert "NaN" not in data.attributes["age"] and data.profile[1].tolist() == [0]


def test_times_of_numpy_in_other_units_durations_and_bytes():
    days = ["2020-01-02", "2020-01-01", "2020-01-03"]
    for unit in ("s", "m", "h", "D", "ns"):
        frame = {"user_id": [1, 1, 1], "item_id": list("abc"), "at": np.array(days, f"datetime64[{unit}]")}
        assert sequences(from_frame(frame)) == {"1": ["b", "a", "c"]}
    durations = {"user_id": [1, 1], "item_id": list("ab"), "time": [datetime.timedelta(days=each) for each in (2_000, 10)]}
    with pytest.raises(UserError, match="time"):  # no calendar dates are made of them
        from_frame(durations, {"time": "time"})
    with pytest.raises(UserError, match="frame: a column that is no text"):
        from_frame(pl.DataFrame({"user_id": [1, 1], "item_id": [b"\xff", b"2"]}))


def test_ids_that_are_objects_are_their_texts():
    numbers = [uuid.UUID(int=number) for number in (1, 2)]
    data = from_frame({"user_id": np.array([1, "2"], object), "item_id": pl.Series(numbers, dtype=pl.Object)})
    assert sequences(data) == {"1": [str(numbers[0])], "2": [str(numbers[1])]}


def test_frames_of_other_kinds():
    arrays = {"user_id": np.array([1, 1]), "item_id": np.array([5, 4]), "time": np.array([2, 1])}
    assert sequences(from_frame(arrays)) == {"1": ["4", "5"]}
    assert sequences(from_frame(pl.LazyFrame(arrays), name="shop")) == {"1": ["4", "5"]}
    for wrong, said in (
        (7, "must be a frame of polars or pandas, got int"),
        (None, "must be a frame of polars or pandas, got NoneType"),
        (Twice(), "column 'item_id' is there twice; rename one"),
        ({"user_id": [1], "item_id": [1, 2]}, "not a table"),
    ):
        with pytest.raises(UserError, match=f"frame: {said}"):
            from_frame(wrong)
    with pytest.raises(UserError, match=r"frame, row 2: expected an id as item_id, found ''; correct"):
        from_frame({"user_id": [1, 1], "item_id": ["a", None]})
    with pytest.raises(UserError, match=r"frame, row 1: expected text without NUL as item_id"):
        from_frame({"user_id": [1], "item_id": ["a\0"]})


class Twice:
    """Stands for a frame of pandas with two columns of one name."""

    columns = ("user_id", "item_id", "item_id")


# The overview


def test_the_overview(tmp_path):
    rows = "".join(f"u{user},i{n},{EPOCH + n}\n" for user, length in enumerate([1, 3, 4, 12]) for n in range(length))
    data = read_own(write(tmp_path, "uid,sku,ts\n" + rows + "u3,i0,1600000000\n", "shop.csv"))
    assert data.counts[REPEATED] == 1
    assert overview(data).splitlines() == [
        "shop",
        "  users          4 (3 with 3 interactions or more, which is what a test needs)",
        "  items          12",
        "  interactions   20",
        "  columns        user uid, item sku, time ts",
        "  order          ts (seconds); equal times: as in the file",
        "  times          2020-09-13 to 2020-09-13",
        "  profiles       none",
        "  dropped        1 repeated rows (same user, item and time)",
        "  users by number of interactions",
        "          1          1 ####################",
        "          2          0",
        "        3-4          2 ########################################",
        "        5-9          0",
        "      10-19          1 ####################",
    ]
    assert isinstance(data, Interactions)
    assert "order          rows of the file" in overview(from_frame({"user_id": [1], "item_id": [2]}))


def test_a_histogram_has_a_bar_for_few_among_many():
    found = histogram(np.array([1] * 100_000 + [500] + [0] * 9)).splitlines()
    assert found[0] == "          1    100,000 " + "#" * 40
    assert found[-1] == "       200+          1 #"
