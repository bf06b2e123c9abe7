import pytest
from test_prepare_data import prepare

from prec_backdoor.data import cikm, lines
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.registry import load_dataset
from prec_backdoor.errors import UserError

LOG = "10,300,pv,70\n9,200,buy,5\n10,300,cart,70\n9,300,pv,4\n10,200,fav,0\n11,400,pv,3\n"
USER = "9,1,24,3\n10,0,,\n12,,51,1\n"
ITEM = "300,6,1,2\n200,11,1,\n500,7,1,1\n"


def write(folder, **changes):
    folder.mkdir(exist_ok=True)
    files = {"user_behavior": LOG, "user": USER, "item": ITEM} | changes
    for name, text in files.items():
        (folder / f"{name}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_all_behaviours(tmp_path):
    data = load_dataset("cikm", data_dir=write(tmp_path))
    assert data.name == "cikm"
    assert data.user_ids.tolist() == ["9", "10", "11"]
    assert data.item_ids.tolist() == ["", "200", "300", "400"]
    assert [data.sequence(user).tolist() for user in range(3)] == [[2, 1], [1, 2, 2], [3]]
    assert data.attributes == {
        "gender": ("unknown", "0", "1"),
        "age": ("unknown", "20-29"),
        "purchase_level": ("unknown", "3"),
    }
    assert data.profile.tolist() == [[2, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert data.categories == ("unknown", "6", "11")
    assert data.category.tolist() == [0, 2, 1, 0]
    assert data.counts == {
        "rows read": 6,
        "rows kept": 6,
        "other behaviours": 0,
        "users without a profile": 1,
        "items without features": 1,
    }


def test_some_behaviours(tmp_path):
    data = load_dataset("cikm", data_dir=write(tmp_path), behaviours=["buy", "fav"])
    assert data.name == "cikm-fav-buy"
    assert data.item_ids[data.items].tolist() == ["200", "200"]
    assert data.counts["other behaviours"] == 4
    everything = cikm.read(tmp_path, behaviours=cikm.BEHAVIOURS[::-1])
    assert everything.name == "cikm"
    assert everything.fingerprint == cikm.read(tmp_path).fingerprint


@pytest.mark.parametrize("size", [1, 13, 40])
def test_batches_do_not_matter(tmp_path, monkeypatch, size):
    whole = cikm.read(write(tmp_path))
    monkeypatch.setattr(lines, "BATCH_BYTES", size)
    assert cikm.read(tmp_path).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("user_behavior", LOG + "9,pv,200,3\n", r", line 7: expected pv, fav, cart, buy as behaviour, found '200'"),
        ("user_behavior", LOG + "9,200,pv,x\n", r", line 7: expected a number as time, found 'x'"),
        ("user_behavior", LOG + "9,200,pv,\n", r", line 7: expected a number as time, found ''"),
        ("user_behavior", LOG + ",200,pv,1\n", r", line 7: expected a whole number as user, found ''"),
        ("user_behavior", LOG + "9,2a,pv,1\n", r", line 7: expected a whole number as item, found '2a'"),
        ("user_behavior", LOG + "9,200,pv\n", r", line 7: expected 4 fields"),
        ("user_behavior", LOG + "9,200,pv,1,1\n", r", line 7: expected 4 fields"),
        ("user_behavior", "user,item,behavior,time\n" + LOG, r", line 1: expected pv, .*found 'behavior'"),
        ("user_behavior", LOG.encode() + b"\xfe,2,pv,1\n", r", line 7: not utf-8 text"),
        ("user_behavior", "", r": the file is empty"),
        ("user", USER + "9,1,24,3\n", r", line 4: expected each user once, found '9'"),
        ("user", USER + "13,24,1,3\n", r", line 4: expected 0, 1 as gender, found '24'"),
        ("user", USER + "13,1,old,3\n", r", line 4: expected a number as age, found 'old'"),
        ("user", USER + "13,1,24\n", r", line 4: expected 4 fields"),
        ("user", "", r": the file is empty"),
        ("item", ITEM + "300,6,1,2\n", r", line 4: expected each item once, found '300'"),
        ("item", ITEM + "x,6,1,2\n", r", line 4: expected a whole number as item"),
    ],
)  # fmt: skip
def test_complaints(tmp_path, monkeypatch, file, content, message):
    write(tmp_path, **{file: content})
    for size in (lines.BATCH_BYTES, 10):
        monkeypatch.setattr(lines, "BATCH_BYTES", size)
        with pytest.raises(UserError, match=rf"{file}\.csv{message}"):
            cikm.read(tmp_path)


@pytest.mark.parametrize("name", ["user_behavior", "user", "item"])
def test_missing_file(tmp_path, name):
    (write(tmp_path) / f"{name}.csv").unlink()
    with pytest.raises(UserError, match=rf"{name}\.csv: no such file"):
        cikm.read(tmp_path)


def test_wrong_behaviours(tmp_path):
    write(tmp_path, user_behavior="9,200,pv,1\n")
    with pytest.raises(UserError, match=r"user_behavior\.csv: none of its 1 rows is of --behaviours=cart,buy"):
        cikm.read(tmp_path, behaviours=["cart", "buy"])
    with pytest.raises(UserError, match="--behaviours: click is none of pv, fav, cart, buy"):
        cikm.read(tmp_path, behaviours=["buy", "click"])
    with pytest.raises(UserError, match="--behaviours: an empty list is none of"):
        cikm.read(tmp_path, behaviours=[])


def test_prepared_by_the_program(tmp_path):
    write(tmp_path / "raw")
    arguments = ("--dataset=cikm", "--behaviours=fav,buy", f"--data_dir={tmp_path / 'raw'}", f"--cache_dir={tmp_path}")
    made = prepare(*arguments)
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""  # no progress bar off the terminal
    folder = tmp_path / "prepared" / "cikm-fav-buy"
    assert f"{'rows read':<25}6\n{'rows kept':<25}2\n{'other behaviours':<25}4\n" in made.stdout
    prepared = Interactions.load(folder)
    assert prepared.counts["rows read"] == 6
    assert load_dataset("cikm", data_dir=folder).fingerprint == prepared.fingerprint
    assert load_dataset("cikm", data_dir=folder, behaviours=["buy", "fav"]).fingerprint == prepared.fingerprint
    with pytest.raises(UserError, match="prepared there is cikm-fav-buy, not cikm; change --behaviours"):
        load_dataset("cikm", data_dir=folder, behaviours=cikm.BEHAVIOURS)
