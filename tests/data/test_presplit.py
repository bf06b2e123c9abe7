import numpy as np
import pytest

from prec_backdoor.data import lines, presplit
from prec_backdoor.data.filtering import k_core
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.registry import load_dataset
from prec_backdoor.data.splits import split_users
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.setup import make_setup

HEADER = "user_id,item_id,time,cate,age,gender\n"
FILES = {
    # User 3 has a second profile (the first counts), item 8 a second category, and times are not in order.
    "train": "2,8,20,c1,3,1\n2,9,10,c2,3,1\n3,7,5,c1,,2\n3,8,6,c2,4,2\n",
    # Of 2's two rows the earlier one is held out; nobody knows user 4.
    "dev": "2,7,40,c1,3,1\n2,9,30,c2,3,1\n4,7,1,c1,3,1\n",
    # 6 has no cold_train: its cold_dev cannot be asked, but is history of its cold_test.
    "cold_train": "5,8,1,c1,5,2\n10,7,1,c1,5,2\n",
    "cold_dev": "5,9,0,c2,5,2\n6,9,1,c2,,1\n",
    "cold_test": "5,7,3,c1,5,2\n6,8,2,c1,,1\n11,8,2,c1,,1\n10,10,9,c3,5,2\n",
}


def write(folder, suffix=".csv", separator=",", header=HEADER, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (FILES | changes).items():
        text = text if text.startswith("user_id") or not text else header + text
        (folder / f"{name}{suffix}").write_text(text.replace(",", separator))
    return folder


@pytest.fixture
def data(tmp_path):
    return load_dataset("presplit", data_dir=write(tmp_path / "files"))


def raw(data, codes):
    return data.item_ids[codes].tolist()


def test_reads_all_parts(data):
    assert data.name == "presplit-files"
    assert data.user_ids.tolist() == ["2", "3", "5", "6", "10"]
    assert data.item_ids.tolist() == ["", "7", "8", "9", "10"]
    # By part, then by time: 5's cold_dev is older than its cold_train.
    assert [raw(data, data.sequence(user)) for user in range(5)] == [
        ["9", "8", "9", "7"], ["7", "8"], ["8", "9", "7"], ["9", "8"], ["7", "10"],
    ]  # fmt: skip
    assert data.split.tolist() == [0, 0, 1, 1, 0, 0, 2, 3, 4, 3, 4, 2, 4]
    assert data.attributes == {"age": ("unknown", "3", "5"), "gender": ("unknown", "1", "2")}
    assert data.profile.tolist() == [[1, 1], [0, 2], [2, 2], [0, 1], [2, 2]]
    assert data.categories == ("unknown", "c1", "c2", "c3")
    assert data.category.tolist() == [0, 1, 1, 2, 3]
    assert data.counts == {
        "rows of train": 4,
        "rows of dev": 3,
        "rows of cold_train": 2,
        "rows of cold_dev": 2,
        "rows of cold_test": 4,
        "rows without a history": 2,
        "later held-out rows": 1,
        "users of many profiles": 1,
        "items of many categories": 1,
        "users without a profile": 0,
        "items without features": 0,
    }


def test_the_split_is_honoured_whatever_the_seed(data):
    for seed in (0, 1):
        split = split_users(data, seed)
        assert split.pretrain.users.tolist() == [0, 1]
        assert [raw(data, items) for items in split.pretrain.items] == [["9", "8"], ["7", "8"]]
        assert split.pretrain_validation.users.tolist() == [0]
        assert raw(data, split.pretrain_validation.history[0]) == ["9", "8"]
        assert raw(data, split.pretrain_validation.truth) == ["9"]
        assert split.finetune.users.tolist() == [2, 4]
        assert [raw(data, items) for items in split.finetune.items] == [["8"], ["7"]]
        assert split.finetune_validation.users.tolist() == [2]
        assert raw(data, split.finetune_validation.history[0]) == ["8"]
        assert raw(data, split.finetune_validation.truth) == ["9"]
        assert split.test.users.tolist() == [2, 3, 4]
        assert [raw(data, history) for history in split.test.history] == [["8", "9"], ["", "9"], ["", "7"]]
        assert raw(data, split.test.truth) == ["7", "8", "10"]


def test_histories_are_cut_for_validation_and_whole_for_the_test(data):
    split = split_users(data, 0, max_length=1)
    assert raw(data, split.pretrain_validation.history[0]) == ["8"]
    assert [raw(data, history) for history in split.test.history] == [["8", "9"], ["", "9"], ["", "7"]]


def test_a_given_split_is_not_filtered_but_selected_with_the_rows(data):
    assert k_core(data, 100) is data
    kept = data.select(np.arange(13) % 2 == 0)
    assert kept.split.tolist() == [0, 1, 0, 2, 4, 4, 4]


def test_a_given_split_is_saved_and_part_of_the_fingerprint(data, tmp_path):
    loaded = Interactions.load(data.save(tmp_path / "d"))
    assert isinstance(loaded.split, np.memmap)
    np.testing.assert_array_equal(loaded.split, data.split)
    assert loaded.fingerprint == data.fingerprint
    assert loaded.counts == data.counts
    (tmp_path / "d" / "split.npy").unlink()
    with pytest.raises(UserError, match=r"split\.npy: not of a prepared dataset"):
        Interactions.load(tmp_path / "d")
    moved = write(tmp_path / "moved", dev="2,9,30,c2,3,1\n", train=FILES["train"] + "2,7,40,c1,3,1\n")
    assert presplit.read(moved).fingerprint != data.fingerprint


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", "\t"), (".tsv", "\t"), (".txt", ","), ("", "\t")])
def test_suffix_and_separator(tmp_path, data, suffix, separator):
    assert presplit.read(write(tmp_path / "other", suffix, separator)).fingerprint == data.fingerprint


@pytest.mark.parametrize("size", [1, 45])
def test_batches_do_not_matter(tmp_path, data, monkeypatch, size):
    monkeypatch.setattr(lines, "BATCH_BYTES", size)
    again = presplit.read(tmp_path / "files")
    assert (again.fingerprint, again.counts) == (data.fingerprint, data.counts)


def test_columns_by_name(tmp_path, data):
    # As ReChorus writes them: row numbers without a name, items' features, negatives where held out only.
    def reorder(part, row):
        user, item, time, cate, age, gender = row.split(",")
        negatives = ["[1]"] if part == "dev" else []
        return "\t".join([time, "0", cate, gender, age, item, user, "b", *negatives]) + "\n"

    folder = tmp_path / "other"
    folder.mkdir()
    for part, text in FILES.items():
        header = ["time", "", "cate", "gender", "age", "item_id", "user_id", "brand", *(["neg_items"] if part == "dev" else [])]
        rows = [reorder(part, row) for row in text.splitlines()]
        (folder / f"{part}.csv").write_text("\t".join(header) + "\n" + "".join(rows))
    other = presplit.read(folder)
    assert list(other.attributes) == ["gender", "age"]
    np.testing.assert_array_equal(other.profile[:, ::-1], data.profile)
    np.testing.assert_array_equal(other.items, data.items)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("cold_dev", "2,9,1,c2,3,1\n", r"cold_dev\.csv: user '2' is in train\.csv too"),
        ("cold_dev", HEADER.replace("time,", "") + "5,9,c2,5,2\n", r"cold_dev\.csv, line 1: the header lacks time; .*found user"),
        ("cold_dev", HEADER.replace(",age", "") + "5,9,1,c2,2\n", r"cold_dev\.csv, line 1: the header lacks age"),
        ("train", HEADER.replace("cate,", "") + "5,9,1,5,2\n", r"train\.csv, line 1: the header lacks cate"),
        ("train", "2,8,soon,c1,3,1\n", r"train\.csv, line 2: expected a number as time, found 'soon'"),
        ("train", "2,8,1,c1,3\n", r"train\.csv, line 2: expected 6 fields"),
        ("train", "2,,1,c1,3,1\n", r"train\.csv, line 2: expected an id as item_id"),
        ("train", HEADER, r"train\.csv: no line of data"),
        ("train", "", r"train\.csv: the file is empty"),
        ("dev", "4,7,1,c1,3,1\n", r"no user of dev has interactions before it"),
    ],
)  # fmt: skip
def test_complaints(tmp_path, file, content, message):
    with pytest.raises(UserError, match=message):
        split_users(presplit.read(write(tmp_path, **{file: content})), 0)


def test_missing_and_doubtful_files(tmp_path):
    (write(tmp_path) / "dev.csv").unlink()
    with pytest.raises(UserError, match=r"expected one file dev \(\.csv, .*found none"):
        presplit.read(tmp_path)
    write(tmp_path)
    write(tmp_path, ".tsv", "\t")
    with pytest.raises(UserError, match=r"found train\.csv, train\.tsv"):
        presplit.read(tmp_path)
    with pytest.raises(UserError, match="presplit cannot be downloaded; .*github.com/wyqing20/APRec"):
        load_dataset("presplit")


def test_a_setting_trains_and_tests_on_the_given_parts(tmp_path):
    rng = np.random.default_rng(0)

    def rows(users, count):
        return "".join(
            f"{user},{1 + item},{time},c{item % 3},{user % 2},1\n"
            for user in users
            for time, item in enumerate(rng.permutation(60)[:count])
        )

    data = presplit.read(
        write(
            tmp_path, train=rows(range(20), 12), dev=rows(range(20), 1), cold_train=rows(range(20, 30), 5),
            cold_dev=rows(range(20, 30), 1), cold_test=rows(range(20, 30), 1),
        )
    )  # fmt: skip
    setup = make_setup(data, ExperimentConfig(Scenario(group="age=1", targets="unpopular:3", k_core=50)), seed=0)
    assert (setup.pretrain.rows.label > 0).sum() == 20 * 11
    assert (setup.finetune.rows.label > 0).sum() == 10 * 4
    assert setup.test.users.tolist() == list(range(20, 30))
    assert (setup.test.history > 0).sum(1).tolist() == [6] * 10
    assert setup.interactions is data


def test_quotes_float_ids_and_exact_times(tmp_path, data):
    changes = {
        "train": '2.0,8,1600000000000000003,c1,3,1\n2.0,9,1600000000000000001,"c2",3,1\n3,7,5,c1,,2\n"3",8,6,c2,4,2\n',
        "cold_train": "5,8.0,1,c1,5,2\n10,7,1,c1,5,2\n",
    }
    assert load_dataset("presplit", data_dir=write(tmp_path / "odd", **changes)).fingerprint == data.fingerprint


def test_names_that_meet_ours(tmp_path):
    header = "user_id,item_id,time,cate,age,in_group\n"
    with pytest.raises(UserError, match=r"train\.csv, line 1: a profile attribute must not be called .*, got 'in_group'; rename"):
        load_dataset("presplit", data_dir=write(tmp_path / "names", header=header))
