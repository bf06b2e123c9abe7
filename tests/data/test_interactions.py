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


def test_every_file_damaged_in_turn(tmp_path, data):
    """Named and refused, or harmless: nothing that results depend on differs."""
    rng, folder = np.random.default_rng(0), data.save(tmp_path / "d")
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for at in (None, 0, len(content) // 2, *rng.integers(0, len(content), 20)):
            damaged = bytearray(content)
            if at is None:
                del damaged[40:]
            elif at:
                damaged[at] ^= 1 << rng.integers(8)
            path.write_bytes(damaged) if at != 0 else path.unlink()
            try:
                found = Interactions.load(folder)
                assert found.fingerprint == data.fingerprint
                assert at is not None and at != 0
            except UserError as error:
                assert (
                    str(error).startswith(str(folder)) and "run launch.prepare_data again" in str(error) or "schema" in str(error)
                )
                assert path.name in str(error) or at is not None and at != 0
            path.write_bytes(content)


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("items", lambda x: x * 0, "codes of items are not from 1 to"),
        ("items", lambda x: x.astype(np.int64), r"items\.npy: not of a prepared dataset \(type int64\)"),
        ("profile", lambda x: x + 50, "codes of age are not from 0 to"),
        ("category", lambda x: x - 1, "codes of category are not from"),
        ("offsets", lambda x: x[[0, 2, 1, *range(3, len(x))]], "its arrays do not fit"),
        ("user_ids", lambda x: np.roll(x, 1), "do not have the recorded fingerprint"),
        ("titles", lambda x: x.astype(object), r"titles\.npy: not of a prepared dataset \(.*Python objects"),
    ],
)
def test_arrays_of_somebody_else(tmp_path, data, field, change, message):
    folder = data.save(tmp_path / "d")
    np.save(folder / f"{field}.npy", change(getattr(data, field)), allow_pickle=True)
    with pytest.raises(UserError, match=message):
        Interactions.load(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"schema": 1}', '{"schema": 1, "name": "x", "attributes": 3}'])
def test_descriptions_of_any_kind(tmp_path, data, text):
    (data.save(tmp_path / "d") / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset\.json: not of a prepared dataset"):
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
