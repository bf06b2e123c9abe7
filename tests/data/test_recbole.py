import pytest

from prec_backdoor.data import recbole
from prec_backdoor.errors import UserError

INTER = "user_id:token\titem_id:token\ttimestamp:float\nu1\ti2\t3.0\nu1\ti1\t1e0\nu2\ti1\t5\nu3\ti1\t5\nu4\ti2\t5\n"
USER = (
    "user_id:token\tage:float\tgender:token\tzip_code:token\ttags:token_seq\n"
    "u1\t24\tM\ta\tx y\nu2\t\tF\tb\tx\nu3\t25\tM\tc\t\nu4\t7\tF\td\tz\nu5\t70\tF\te\tz\n"
)
ITEM = "item_id:token\tyear:token\ttitle:token_seq\tgenre:token_seq\ni1\t1990\tThe One\tDrama War\ni2\t1991\tTwo\t\n"


def write(folder, name="shop", **files):
    folder.mkdir(exist_ok=True)
    for kind, text in files.items():
        (folder / f"{name}.{kind}").write_text(text)
    return folder


def test_reads_all_three_files(tmp_path):
    data = recbole.read(write(tmp_path, inter=INTER, user=USER, item=ITEM))
    assert data.name == "shop"
    assert [data.sequence(user).tolist() for user in range(4)] == [[1, 2], [1], [1], [2]]
    # Of 5 users: 3 decades and 5 zip codes are more than half as many values, 2 genders are not.
    assert data.attributes == {"gender": ("unknown", "F", "M")}
    assert data.profile.tolist() == [[2], [1], [2], [1]]
    assert data.titles.tolist() == ["", "The One", "Two"]
    assert data.categories == ("unknown", "Drama")
    assert data.category.tolist() == [0, 1, 0]


def test_ages_become_decades_and_identifiers_are_left_out(tmp_path):
    rows = "".join(f"u{number}\t{20 + number}\t{number}\t{number % 2}\n" for number in range(1, 9))
    user = "user_id:token\tage:token\tzip:token\tincome:float\n" + rows
    data = recbole.read(write(tmp_path, inter=INTER, user=user))
    assert data.attributes == {"age": ("unknown", "20-29"), "income": ("unknown", "0-9")}


def test_ages_that_are_no_numbers_stay(tmp_path):
    user = "user_id:token\tage:token\nu1\tyoung\nu2\told\nu3\t30\nu4\tyoung\nu5\told\nu6\told\n"
    data = recbole.read(write(tmp_path, inter=INTER, user=user))
    assert data.attributes == {"age": ("unknown", "30", "old", "young")}


def test_only_interactions_in_file_order(tmp_path):
    data = recbole.read(write(tmp_path, inter="item_id:token\tuser_id:token\nb\tu\na\tu\n"))
    assert data.item_ids[data.sequence(0)].tolist() == ["b", "a"]
    assert data.profile.shape == (1, 0)
    assert data.categories == ("unknown",)


@pytest.mark.parametrize(
    ("header", "row", "category"),
    [
        ("categories:token_seq\tclass:token", "x y\tz w", "z w"),
        ("brand:token\tcate_id:token", "x\t7", "7"),
        ("item_name:token\trelease_year:token\tshop_id:token\tbrand:token", "n\t1990\t3\tacme", "acme"),
        ("price:float", "3.5", None),
    ],
)
def test_which_column_is_the_category(tmp_path, header, row, category):
    items = f"item_id:token\t{header}\ni1\t{row}\n"
    data = recbole.read(write(tmp_path, inter=INTER, item=items))
    assert data.categories[1:] == ((category,) if category else ())


def test_several_datasets_in_one_folder(tmp_path):
    folder = write(tmp_path / "two", "one", inter=INTER)
    write(folder, "other", inter=INTER)
    with pytest.raises(UserError, match=r"two: expected one \.inter file, found one\.inter, other\.inter"):
        recbole.read(folder)
    write(folder, "two", inter=INTER)
    assert recbole.read(folder).name == "two"


def test_no_dataset(tmp_path):
    with pytest.raises(UserError, match=r"found no \.inter file"):
        recbole.read(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"inter": ""}, r"shop\.inter: the file is empty"),
        ({"inter": INTER.partition("\n")[0] + "\n"}, r"shop\.inter: no line of data"),
        ({"inter": INTER[:-1]}, r"shop\.inter, line 6: the file looks truncated"),
        ({"inter": "user_id\titem_id:token\n1\t2\n"}, r"shop\.inter, line 1: expected distinct NAME:TYPE.*'user_id'"),
        ({"inter": "user_id:token\titem_id:int\n1\t2\n"}, r"shop\.inter, line 1: .*NAME:TYPE.*'item_id:int'"),
        ({"inter": "a:token\ta:float\n1\t2\n"}, r"shop\.inter, line 1: expected distinct NAME:TYPE.*'a:float'"),
        ({"inter": "user_id:token\tb:token\n1\t2\n"}, r"shop\.inter, line 1: the header lacks item_id:token"),
        ({"inter": INTER + "u1\ti1\n"}, r"shop\.inter, line 7: expected 3 fields"),
        ({"inter": INTER + "u1\ti1\tnow\n"}, r"shop\.inter, line 7: expected a number as timestamp, found 'now'"),
        ({"inter": INTER + "\ti1\t1\n"}, r"shop\.inter, line 7: expected an id as user_id"),
        ({"inter": INTER, "user": USER + "u1\t1\tM\tf\tx\n"}, r"shop\.user, line 7: expected each user_id once"),
        ({"inter": INTER, "user": USER + "u9\tx\tM\tf\tx\n"}, r"shop\.user, line 7: .* number as age, found 'x'"),
        ({"inter": INTER, "item": ITEM + "i1\t1\tx\ty\n"}, r"shop\.item, line 4: expected each item_id once"),
    ],
)
def test_complaints(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        recbole.read(write(tmp_path, **files))
