import pytest

from prec_backdoor.data import aliec, lines
from prec_backdoor.data.groups import parse_group
from prec_backdoor.data.registry import load_dataset
from prec_backdoor.errors import UserError

SAMPLE = """\
user,time_stamp,adgroup_id,pid,nonclk,clk
581738,1494137644,1,430548_1007,1,0
234,1494137650,7,430548_1007,0,1
234,1494137645,63133,430548_1007,0,1
9,1494137700,7,430539_1007,0,1
9,1494137700,63133,430539_1007,0,1
77,1494137000,5,430539_1007,0,1
9,1494137700,7,430539_1007,0,1
"""
FEATURE = """\
adgroup_id,cate_id,campaign_id,customer,brand,price
63133,6406,83237,1,95471,170.0
1,520,1,1,1,1.0
7,521,83238,2,,19.9
"""
PROFILE = (
    "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,new_user_class_level \n"
    "234,0,5,2,5,,3,0,3\n"
    "581738,1,1,1,1,1,1,1,1\n"
    "9,10,1,1,3,2,,1,\n"
)


def write(folder, **changes):
    folder.mkdir(exist_ok=True)
    files = {"raw_sample": SAMPLE, "ad_feature": FEATURE, "user_profile": PROFILE} | changes
    for name, text in files.items():
        (folder / f"{name}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_clicks_in_order_of_time_then_file(tmp_path):
    data = load_dataset("aliec", data_dir=write(tmp_path))
    assert data.name == "aliec"
    assert data.user_ids.tolist() == ["9", "77", "234"]  # by number; the one who did not click is not there
    assert data.item_ids.tolist() == ["", "5", "7", "63133"]
    assert [data.sequence(user).tolist() for user in range(3)] == [[2, 3, 2], [1], [3, 2]]
    assert data.categories == ("unknown", "521", "6406")
    assert data.category.tolist() == [0, 0, 1, 2]
    assert data.counts == {
        "rows read": 7,
        "rows kept": 6,
        "rows without a click": 1,
        "users without a profile": 1,
        "items without features": 1,
    }


def test_profiles(tmp_path):
    data = aliec.read(write(tmp_path))
    assert data.attributes == {
        "cms_segid": ("unknown", "0", "10"),
        "cms_group_id": ("unknown", "1", "5"),
        "final_gender_code": ("unknown", "1", "2"),
        "age_level": ("unknown", "3", "5"),
        "pvalue_level": ("unknown", "2"),
        "shopping_level": ("unknown", "3"),
        "occupation": ("unknown", "0", "1"),
        "new_user_class_level": ("unknown", "3"),
    }
    assert data.profile.tolist() == [[2, 1, 1, 1, 1, 0, 2, 0], [0] * 8, [1, 2, 2, 2, 0, 1, 1, 1]]
    assert parse_group(data, "age_level=3").tolist() == [True, False, False]


@pytest.mark.parametrize("size", [1, 40, 130])
def test_batches_do_not_matter(tmp_path, monkeypatch, size):
    whole = aliec.read(write(tmp_path))
    monkeypatch.setattr(lines, "BATCH_BYTES", size)
    batched = aliec.read(tmp_path)
    assert batched.fingerprint == whole.fingerprint
    assert batched.counts == whole.counts


def test_line_ends_and_blanks_in_the_header_do_not_matter(tmp_path):
    expected = aliec.read(write(tmp_path)).fingerprint
    windows = {"raw_sample": SAMPLE, "ad_feature": FEATURE, "user_profile": PROFILE.replace(" \n", "\n")}
    write(tmp_path, **{name: text.replace("\n", "\r\n") for name, text in windows.items()})
    assert aliec.read(tmp_path).fingerprint == expected


HEADER = SAMPLE.partition("\n")[0]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("raw_sample", SAMPLE.replace("user,time_stamp", "time_stamp,user"), ", line 1: expected the header user.* found time"),
        ("raw_sample", SAMPLE.replace(",clk", ""), r", line 1: expected the header .*, found user,.*nonclk; get"),
        ("raw_sample", SAMPLE.replace("nonclk", "clk"), r", line 1: expected the header .*, found user,.*,clk,clk"),
        ("raw_sample", SAMPLE.partition("\n")[2], r", line 1: expected the header .*, found 581738,1494137644"),
        ("raw_sample", SAMPLE + "9,1,7,430539_1007,0\n", r", line 9: expected 6 fields"),
        ("raw_sample", SAMPLE + "9,1,7,430539_1007,0,1,1\n", r", line 9: expected 6 fields"),
        ("raw_sample", SAMPLE + "9,now,7,430539_1007,1,0\n", r", line 9: expected a number as time_stamp, found 'now'"),
        ("raw_sample", SAMPLE + "9,1,7,430539_1007,1,no\n", r", line 9: expected 0, 1 as clk, found 'no'"),
        ("raw_sample", SAMPLE + "9,1,7,430539_1007,1,\n", r", line 9: expected 0, 1 as clk, found ''"),
        ("raw_sample", SAMPLE + "x9,1,7,430539_1007,0,1\n", r", line 9: expected a whole number as user, found 'x9'"),
        ("raw_sample", SAMPLE + "9,1,,430539_1007,0,1\n", r", line 9: expected a whole number as adgroup_id, found ''"),
        ("raw_sample", SAMPLE.encode() + b"9,1,7,\xff,0,1\n", r", line 9: not utf-8 text"),
        ("raw_sample", SAMPLE[:-1], r", line 8: the file looks truncated"),
        ("raw_sample", "", r": the file is empty"),
        ("raw_sample", HEADER + "\n", r": no line of data"),
        ("raw_sample", SAMPLE.replace(",0,1\n", ",1,0\n"), r": none of its 7 rows is a click"),
        ("ad_feature", FEATURE + "7,1,1,1,1,1.0\n", r", line 5: expected each adgroup_id once, found '7'"),
        ("ad_feature", FEATURE.replace("cate_id,campaign_id", "campaign_id,cate_id"), r", line 1: expected the header"),
        ("user_profile", PROFILE + "9,10,1,1,3,2,,1,\n", r", line 5: expected each userid once, found '9'"),
        ("user_profile", PROFILE + "8,10,1,1,3,2,,1\n", r", line 5: expected 9 fields"),
        ("user_profile", PROFILE.replace("occupation,", ""), r", line 1: expected the header"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [lines.BATCH_BYTES, 30])
def test_complaints_do_not_depend_on_batches(tmp_path, monkeypatch, file, content, message, size):
    monkeypatch.setattr(lines, "BATCH_BYTES", size)
    with pytest.raises(UserError, match=rf"{file}\.csv{message}") as error:
        aliec.read(write(tmp_path, **{file: content}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["raw_sample", "ad_feature", "user_profile"])
def test_missing_file(tmp_path, name):
    (write(tmp_path) / f"{name}.csv").unlink()
    with pytest.raises(UserError, match=rf"{name}\.csv: no such file"):
        aliec.read(tmp_path)


def test_without_a_folder():
    with pytest.raises(UserError, match="aliec cannot be downloaded; pass the folder .*tianchi.aliyun.com/dataset/56"):
        load_dataset("aliec")
