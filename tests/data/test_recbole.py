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
    rows = "".join(f"u{number}\t{20 + number}\t{number}\t{number % 2}.0\tx y\n" for number in range(1, 9))
    user = "user_id:token\tage:token\tzip:token\tincome:float\ttags:token_seq\n" + rows
    data = recbole.read(write(tmp_path, inter=INTER, user=user))
    assert data.attributes == {"age": ("unknown", "20-29"), "income": ("unknown", "0", "1")}
    assert data.notes["left out"] == "zip (8 values for 8 users), tags (a list)"


@pytest.mark.parametrize(
    ("header", "values", "expected"),
    [
        ("age:float", [24, 25.0, 31, ""] * 3, ("20-29", "30-39")),
        ("user_age:token", [1, 119] * 6, ("0-9", "110-119")),
        ("age:token", [1, 2, 3, 3] * 3, ("1", "2", "3")),  # codes
        ("age:float", [0, 24, 31, 31] * 3, ("0", "24", "31")),  # 0 is no age
        ("age_level:float", [1.0, 2.0, 10.0, 2.0] * 3, ("1", "2", "10")),
        ("page:token", [24, 25, 31, 24] * 3, ("24", "25", "31")),
        ("income:float", [1.5, 24, 2.5, 24] * 3, ("1.5", "2.5", "24")),
        ("height:float", list(range(160, 190)) * 3, None),
    ],
)
def test_which_numbers_are_ages(tmp_path, header, values, expected):
    inter = "user_id:token\titem_id:token\n" + "".join(f"{user}\ta\n" for user in range(len(values)))
    user = f"user_id:token\t{header}\n" + "".join(f"{user}\t{value}\n" for user, value in enumerate(values))
    data = recbole.read(write(tmp_path, inter=inter, user=user))
    name = header.partition(":")[0]
    assert {name: values[1:] for name, values in data.attributes.items()} == ({name: expected} if expected else {})
    assert ("30 numbers, more than 20" in data.notes.get("left out", "")) == (expected is None)


@pytest.mark.parametrize("name", ["user", "users", "in_group"])
def test_names_that_meet_ours(tmp_path, name):
    user = f"user_id:token\t{name}:token\nu1\tx\n"
    with pytest.raises(
        UserError, match=rf"shop\.user, line 1: .* must not be called .*in_group, got '{name}'; rename the column"
    ):
        recbole.read(write(tmp_path, inter=INTER, user=user))


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
        ("genre:token", "Sci-Fi & Fantasy", "Sci-Fi & Fantasy"),
        ("genre:token_seq", "Sci-Fi, Fantasy", "Sci-Fi"),
        ("genre:token_seq", "'Video Games', 'RPG'", "Video Games"),
        ("genre:token_seq", "Children's Comedy", "Children's"),
        ("genre:token", "['Video Games', 'RPG']", "Video Games"),
        ("genre:token", "[]", None),
        ("genre:token_seq", "Drama|War", "Drama"),
        ("cate_id:float", "7.0", "7"),
        ("url:token", "https://example.org/3", None),
    ],
)
def test_which_column_is_the_category(tmp_path, header, row, category):
    items = f"item_id:token\t{header}\ni1\t{row}\ni2\t{row}\n"
    data = recbole.read(write(tmp_path, inter=INTER, item=items))
    assert data.categories[1:] == ((category,) if category else ())


def test_a_column_with_nearly_as_many_values_as_items_is_no_category(tmp_path):
    rows = [f"i{item}\tBand {item}\tpicture {item}\tRock,tag {item}\tc{item}\n" for item in range(1, 41)]
    items = "item_id:token\tname:token\tpicture:token\ttags:token\tcategory:token\n" + "".join(rows)
    data = recbole.read(write(tmp_path, inter=INTER, item=items))
    assert data.categories == ("unknown", "Rock")
    assert data.notes["category"] == "tags"
    assert data.notes["left out"] == "category (40 values for 40 items), picture (40 values for 40 items)"
    named = recbole.read(write(tmp_path, inter=INTER, item=items), columns={"category": "picture"})
    assert named.categories == ("unknown", "picture 1", "picture 2")
    with pytest.raises(UserError, match=r"shop\.item, line 1: no column 'genre' for category"):
        recbole.read(tmp_path, columns={"category": "genre"})


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
        (
            {"inter": "user_id:token\tb:token\n1\t2\n"},
            r"line 1: no column 'item_id', found user_id, b; name it by --columns=item=NAME",
        ),
        ({"inter": INTER + "u1\ti1\n"}, r"shop\.inter, line 7: expected 3 fields"),
        ({"inter": INTER + "u1\ti1\tnow\n"}, r"shop\.inter, line 7: expected a number as timestamp, found 'now'"),
        ({"inter": INTER, "user": "user:token\nu1\n"}, r"shop\.user, line 1: no column 'user_id', found user; rename the column"),
        ({"inter": INTER, "user": "user_id:token\nx1\n"}, r"shop\.user: none of its ids is in the .inter file \('x1' here, 'u1'"),
        ({"inter": INTER, "item": "item_id:token\nx1\n"}, r"shop\.item: none of its ids is in the .inter file"),
        ({"inter": INTER + "\ti1\t1\n"}, r"shop\.inter, line 7: expected an id as user_id"),
        ({"inter": INTER, "user": USER + "u1\t1\tM\tf\tx\n"}, r"shop\.user, line 7: expected each user_id once"),
        ({"inter": INTER, "user": USER + "u9\tx\tM\tf\tx\n"}, r"shop\.user, line 7: .* number as age, found 'x'"),
        ({"inter": INTER, "item": ITEM + "i1\t1\tx\ty\n"}, r"shop\.item, line 4: expected each item_id once"),
    ],
)
def test_complaints(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        recbole.read(write(tmp_path, **files))


def test_commas_quotes_and_float_ids(tmp_path):
    inter = 'user_id:token,item_id:token,timestamp:float\n"1.0","a, b",5\n1,c,3\n2.0,"c",3\n'
    user = '"user_id:token","job:token"\n1,"sales, marketing"\n2,x\n3,x\n'
    item = "item_id:token\tgenre:token\na, b\tWar\nc\tWar\n"
    data = recbole.read(write(tmp_path, inter=inter, user=user, item=item))
    assert data.user_ids.tolist() == ["1", "2"]
    assert [data.item_ids[data.sequence(user)].tolist() for user in range(2)] == [["c", "a, b"], ["c"]]
    assert data.attributes == {"job": ("unknown", "sales, marketing", "x")}
    assert data.category.tolist() == [0, 1, 1]


def test_columns_of_other_names(tmp_path):
    inter = "reviewer:token\tasin:token\tseen:float\nu1\ti2\t3\nu1\ti1\t1\n"
    item = "asin:token\tgenre:token\ni1\tWar\ni2\tWar\n"
    user = "user_id:token\tsex:token\nu1\tF\n"  # RecBole's own name
    columns = {"user": "reviewer", "item": "asin", "time": "seen"}
    data = recbole.read(write(tmp_path, inter=inter, item=item, user=user), columns=columns)
    assert data.item_ids[data.sequence(0)].tolist() == ["i1", "i2"]
    assert data.attributes == {"sex": ("unknown", "F")}
    with pytest.raises(UserError, match="no column 'user_id', found reviewer, asin, seen; name it by --columns=user=NAME"):
        recbole.read(tmp_path)
    with pytest.raises(UserError, match="no column 'when' for time, found reviewer, asin, seen; correct --columns"):
        recbole.read(tmp_path, columns=columns | {"time": "when"})


def parts(folder, **texts):
    for name, rows in texts.items():
        (folder / f"shop.{name}.inter").write_text("user_id:token\titem_id:token\n" + rows)
    return folder


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("part1", "part2", "part10")])
def test_benchmark_parts_follow_each_other(tmp_path, names):
    folder = parts(tmp_path, **dict(zip(names, ("u\tc\nv\td\n", "u\tb\n", "u\ta\n"), strict=True)))
    write(folder, user="user_id:token\tsex:token\nu\tF\nv\tM\n", item="item_id:token\tgenre:token\na\tWar\nb\tWar\n")
    data = recbole.read(folder)
    assert data.name == "shop"
    assert data.item_ids[data.sequence(0)].tolist() == ["c", "b", "a"]
    assert list(data.attributes) == ["sex"]
    assert data.categories == ("unknown", "War")


def test_parts_that_are_refused(tmp_path):
    folder = parts(tmp_path, train="u\tc\n", part1="u\tb\n")
    with pytest.raises(UserError, match="the order of shop.part1.inter, shop.train.inter is not known; name the parts"):
        recbole.read(folder)
    (folder / "shop.part1.inter").rename(folder / "shop.test.inter")
    (folder / "shop.test.inter").write_text("item_id:token\tuser_id:token\tx:token\na\tb\tc\n")
    with pytest.raises(UserError, match=r"shop\.test\.inter, line 1: the columns are not those of shop\.train\.inter"):
        recbole.read(folder)
    (folder / "shop.test.inter").unlink()
    (folder / "people.user").write_text("user_id:token\nu\n")
    with pytest.raises(UserError, match=r"people\.user: belongs to no \.inter file; rename it to shop\.user"):
        recbole.read(folder)


def test_the_whole_file_goes_before_parts(tmp_path):
    data = recbole.read(write(parts(tmp_path, train="u\tc\n"), inter=INTER))
    assert data.num_users == 4
    assert data.notes["left out"] == "shop.train.inter (not read)"
