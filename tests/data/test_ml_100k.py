import polars as pl
import pytest

from prec_backdoor.data import ml_100k, registry
from prec_backdoor.errors import UserError

DATA = "2\t10\t3\t20\n1\t9\t5\t10\n2\t9\t4\t20\n2\t11\t1\t5\n"
USER = "1|24|M|student|85711\n2|53|F|none|94043\n"


def item_line(item, title, flags):
    return f"{item}|{title}|01-Jan-1995||http://x|{'|'.join(flags)}\n"


ITEMS = (
    item_line("9", "Toy Story (1995)", "0001110000000000000")
    + item_line("10", "GoldenEye", "0110000000000000100")
    + item_line("11", "unknown", "1000000000000000000")
)


def write(folder, **changes):
    folder.mkdir(exist_ok=True)
    files = {"data": DATA, "user": USER, "item": ITEMS, "info": "2 users\n3 items\n4 ratings\n"} | changes
    for name, text in files.items():
        (folder / f"u.{name}").write_text(text, encoding="latin-1")
    return folder


def test_reads_the_original_files(tmp_path):
    data = ml_100k.read(write(tmp_path))
    assert data.name == "ml-100k"
    assert data.item_ids.tolist() == ["", "9", "10", "11"]
    assert [data.sequence(user).tolist() for user in range(2)] == [[1], [3, 2, 1]]
    assert data.attributes == {
        "age": ("unknown", "20-29", "50-59"),
        "gender": ("unknown", "F", "M"),
        "occupation": ("unknown", "none", "student"),
    }
    assert data.profile.tolist() == [[1, 2, 2], [2, 1, 1]]
    assert data.categories == ("unknown", "Action", "Animation")
    assert data.category.tolist() == [0, 2, 1, 0]
    assert data.titles.tolist() == ["", "Toy Story (1995)", "GoldenEye", "unknown"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": DATA + "3\t9\t1\t1\n"}, r"u\.data, line 5: expected one of the user ids in u\.user, found '3'"),
        ({"data": DATA + "1\t7\t1\t1\n"}, r"u\.data, line 5: expected one of the item ids in u\.item, found '7'"),
        ({"data": DATA + "1\t9\t1\tx\n"}, r"u\.data, line 5: expected a number as time, found 'x'"),
        ({"data": DATA[:-1]}, r"u\.data, line 4: the file looks truncated"),
        ({"data": DATA[: DATA.index("2\t11")]}, r"u\.info: says 4 ratings, its folder has 3"),
        ({"data": ""}, r"u\.data: the file is empty"),
        ({"user": USER + "1|24|M|x|1\n"}, r"u\.user, line 3: expected each user once, found '1'"),
        ({"user": USER.replace("53", "old")}, r"u\.user, line 2: expected a number as age, found 'old'"),
        ({"user": "1|24|M|student\n"}, r"u\.user, line 1: expected 5 fields"),
        ({"item": ITEMS.replace("|0|1|1", "|0|2|1")}, r"u\.item, line 2: .* flag of genre Action, found '2'"),
        ({"item": "9|x|y\n"}, r"u\.item, line 1: expected 24 fields"),
        ({"info": "2 users\n3 movies\n"}, r"u\.info: says 3 movies"),
    ],
)
def test_complaints(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        ml_100k.read(write(tmp_path, **changes))


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"u\.data: no such file"):
        ml_100k.read(tmp_path / "nowhere")


def originals_from_copy(copy, folder):
    """Writes the original files that a copy in RecBole's format was made from."""
    folder.mkdir()
    inter, user, item = (
        pl.read_csv(copy / f"ml-100k.{kind}", separator="\t", quote_char=None, infer_schema=False)
        for kind in ("inter", "user", "item")
    )
    (folder / "u.data").write_text("".join("\t".join(row) + "\n" for row in inter.rows()))
    (folder / "u.user").write_text("".join("|".join(row) + "\n" for row in user.rows()))
    with open(folder / "u.item", "w", encoding="latin-1") as out:
        for code, title, year, genres in item.rows():
            flags = ["1" if genre in genres.split(" ") else "0" for genre in ml_100k.GENRES]
            out.write(item_line(code, f"{title} ({year})", flags))
    (folder / "u.info").write_text(f"{user.height} users\n{item.height} items\n{inter.height} ratings\n")
    return folder


def write_copy(folder):
    folder.mkdir()
    (folder / "ml-100k.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + DATA)
    (folder / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        + "".join(f"{user}\t{20 + user}\t{'FM'[user % 2]}\t{'none'}\t{user}\n" for user in range(1, 5))
    )
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "9\tToy Story\t1995\tAnimation Children's Comedy\n10\tL'é\t1995\tDrama\n11\tunkonwn\tunkonwn\tunknown\n"
    )
    return folder


def test_both_kinds_of_copy_are_the_same_dataset(tmp_path):
    copy = write_copy(tmp_path / "copy")
    original = ml_100k.read(originals_from_copy(copy, tmp_path / "original"))
    assert ml_100k.read(copy).fingerprint == original.fingerprint
    assert list(original.attributes) == ["age", "gender", "occupation"]


def test_the_real_dataset(tmp_path):
    try:
        data = registry.load_dataset("ml-100k")
    except UserError as error:
        if "no download" not in str(error):
            raise
        pytest.skip(str(error))
    assert data.summary() | {"fingerprint": ""} == {
        "name": "ml-100k", "fingerprint": "", "users": 943, "items": 1682, "interactions": 100_000,
    }  # fmt: skip
    students = data.profile[:, 2] == data.attributes["occupation"].index("student")
    assert students.sum() == 196
    assert data.user_ids[0] == "1"
    assert data.lengths()[0] == 272
    assert data.titles[1].startswith("Toy Story")
    assert data.categories[data.category[1]] == "Animation"
    raw = registry.cache_folder() / "raw" / "ml-100k"
    if (raw / "ml-100k.inter").exists():
        original = originals_from_copy(raw, tmp_path / "original")
        assert ml_100k.read(original).fingerprint == data.fingerprint
