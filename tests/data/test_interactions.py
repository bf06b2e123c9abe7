import dataclasses
import json

import numpy as np
import pytest
from toys import make_interactions

from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.synthetic import synthetic
from prec_backdoor.errors import UserError


@pytest.fixture
def data():
    return synthetic(users=30, items=40)


def test_round_trip_is_exact_and_memory_mapped(tmp_path, data):
    loaded = Interactions.load(data.save(tmp_path / "d"))
    assert isinstance(loaded.items, np.memmap)
    for field in ("items", "offsets", "profile", "category", "user_ids", "item_ids", "titles"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(data, field))
        assert getattr(loaded, field).dtype == getattr(data, field).dtype
    assert (loaded.name, loaded.attributes, loaded.categories) == (data.name, data.attributes, data.categories)
    assert loaded.fingerprint == data.fingerprint


def test_saving_replaces_and_leaves_nothing_behind(tmp_path, data):
    synthetic(users=2, items=20).save(tmp_path / "d")
    data.save(tmp_path / "d")
    assert Interactions.load(tmp_path / "d").num_users == 30
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("file", ["items.npy", "profile.npy", "dataset.json"])
def test_damaged_or_missing_files(tmp_path, data, file):
    path = data.save(tmp_path / "d") / file
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="not a prepared dataset .*run launch.prepare_data again"):
        Interactions.load(tmp_path / "d")
    path.unlink()
    with pytest.raises(UserError, match="not a prepared dataset"):
        Interactions.load(tmp_path / "d")


def test_other_schema(tmp_path, data):
    path = data.save(tmp_path / "d") / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    with pytest.raises(UserError, match="schema 99"):
        Interactions.load(tmp_path / "d")


def test_select_drops_and_recodes(data):
    users = np.repeat(np.arange(data.num_users), data.lengths())
    keep = (users % 3 == 1) & (np.arange(len(users)) % 4 > 0)
    kept = data.select(keep)
    kept_users = np.repeat(np.arange(kept.num_users), kept.lengths())
    np.testing.assert_array_equal(kept.user_ids[kept_users], data.user_ids[users[keep]])
    np.testing.assert_array_equal(kept.item_ids[kept.items], data.item_ids[data.items[keep]])
    categories = dict(zip(data.item_ids, data.category, strict=True))
    assert [categories[item] for item in kept.item_ids] == kept.category.tolist()
    assert np.unique(kept.items).tolist() == list(range(1, kept.num_items + 1))


def test_the_fingerprint_of_a_dataset_is_forever():
    data = make_interactions([[1, 2, 3], [3, 1]], attributes={"age": ("a", "b")}, profile=[[1], [2]])
    assert data.fingerprint == "e9ec2e44b2fd9a79"  # workdirs and checkpoints of earlier versions hold such


@pytest.mark.parametrize("split", [[0, 0, 1, 2], [[0, 0, 1, 2, 4]]])
def test_a_split_has_one_part_for_each_interaction(split):
    data = make_interactions([[1, 2, 3], [3, 1]])
    with pytest.raises(UserError, match="split has shape"):
        dataclasses.replace(data, split=np.array(split, np.int8))
