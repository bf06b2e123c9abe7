"""Raw files of any content: the short form of `python -m tests.faults.fuzz`, and what Hypothesis thinks of."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults import fuzz
from prec_backdoor.data.registry import load_dataset
from prec_backdoor.errors import UserError

CASES = fuzz.cases()


@pytest.mark.parametrize("name", CASES)
def test_mutations(tmp_path, name):
    outcomes, faults = fuzz.fuzz(name, 60, seed=1, folder=tmp_path)
    assert not faults
    assert min(outcomes["accepted"], outcomes["refused"]) > 5  # neither is all that can happen


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes(name, data):
    case = CASES[name]
    changed = data.draw(st.sampled_from(sorted(case.files)))
    field = st.text(max_size=12) | st.integers().map(str) | st.floats().map(str)
    separator = case.separator.decode() if data.draw(st.booleans()) else "\t"
    rows = st.lists(st.lists(field, min_size=1, max_size=6).map(separator.join), max_size=5).map(
        lambda found: "\n".join([*found, ""])
    )
    content = data.draw(st.binary(max_size=80) | rows.map(lambda text: text.encode(errors="surrogatepass")))
    if data.draw(st.booleans()):
        content = case.files[changed] + content
    with tempfile.TemporaryDirectory() as folder:
        outcome, why = fuzz.verdict(case, case.files | {changed: content}, Path(folder), skip=data.draw(st.booleans()))
    assert outcome in ("accepted", "refused"), why


def test_the_oracle_and_the_invariants_can_fail(tmp_path, monkeypatch):
    """A reader that forgets the last row, and one that takes what it must refuse, are found out."""
    case = CASES["cikm"]
    other = dict(case.files, **{"user_behavior.csv": case.files["user_behavior.csv"] + b"8,208,pv,99\n"})
    assert fuzz.verdict(case, other, tmp_path, skip=False)[0] == "accepted"
    forgetful = case._replace(oracle=lambda files: case.oracle(case.files))
    assert fuzz.verdict(forgetful, other, tmp_path, skip=False) == ("wrong", "other sequences")
    strict = case._replace(oracle=lambda files: fuzz.naive.need(False))
    assert fuzz.verdict(strict, other, tmp_path, skip=False) == ("wrong", "accepted what must be refused")
    raising = case._replace(read=lambda folder, skipped: 1 / 0)
    assert fuzz.verdict(raising, other, tmp_path, skip=False)[0] == "crash"
    monkeypatch.setattr(fuzz, "SLOW", -1)
    assert fuzz.verdict(case, other, tmp_path, skip=False)[0] == "hang"


def test_skipping_bad_rows(tmp_path, capsys):
    for name, content in CASES["ml-1m"].files.items():
        (tmp_path / name).write_bytes(content)
    whole = load_dataset("ml-1m", data_dir=tmp_path)
    assert capsys.readouterr().err == ""
    lines = (tmp_path / "ratings.dat").read_bytes().splitlines(keepends=True)
    bad = [b"1::2\n", b"1::2::5::soon\n", b"1::2::5::\xff\n", b"1::77::5::1\n", b"88::2::5::1\n", b"1::2::5::9"]
    (tmp_path / "ratings.dat").write_bytes(b"".join([*lines[:5], bad[0], *lines[5:], *bad[1:]]))
    with pytest.raises(UserError, match=r"ratings\.dat, line 36: the file looks truncated"):
        load_dataset("ml-1m", data_dir=tmp_path)
    found = load_dataset("ml-1m", data_dir=tmp_path, on_bad_rows="skip")
    assert found.fingerprint == whole.fingerprint
    skipped = {reason: count for reason, count in found.counts.items() if reason.startswith("skipped")}
    assert skipped == {
        "skipped, ratings.dat: no line end": 1,
        "skipped, ratings.dat: not 4 fields separated by '::'": 1,
        "skipped, ratings.dat: not a number as time": 2,
        "skipped, ratings.dat: not one of the user ids in users.dat": 1,
        "skipped, ratings.dat: not one of the item ids in movies.dat": 1,
    }
    assert capsys.readouterr().err.splitlines() == [
        f"skipped {count} rows, {reason.removeprefix('skipped, ')}" for reason, count in skipped.items()
    ]
