import tempfile

import numpy as np
import pytest

from prec_backdoor.data import download, registry
from prec_backdoor.data.registry import load_dataset
from prec_backdoor.data.synthetic import synthetic
from prec_backdoor.errors import UserError

INTER = "user_id:token\titem_id:token\n1\ta\n1\tb\n2\tb\n"


@pytest.fixture
def fetched(monkeypatch):
    """Replaces the download; lists the fetched names."""
    calls = []

    def fetch(name, folder):
        calls.append(name)
        folder.mkdir(parents=True)
        (folder / f"{name}.inter").write_text(INTER)

    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.setitem(download.COUNTS, "ml-100k", (2, 2, 3))
    return calls


def test_synthetic():
    data = load_dataset("synthetic", synthetic_users=20, synthetic_items=30, synthetic_seed=3)
    assert data.fingerprint == synthetic("small", 20, 30, 3).fingerprint


def test_recbole_folder(tmp_path):
    (tmp_path / "shop.inter").write_text(INTER)
    assert load_dataset(f"recbole:{tmp_path}").num_items == 2
    assert load_dataset("recbole", data_dir=tmp_path).name == "shop"
    with pytest.raises(UserError, match="leave out --data_dir"):
        load_dataset(f"recbole:{tmp_path}", data_dir=tmp_path)


def test_downloads_once_then_reads_the_prepared_copy(tmp_path, fetched):
    first = load_dataset("ml-100k", cache_dir=tmp_path)
    second = load_dataset("ml-100k", cache_dir=tmp_path)
    assert fetched == ["ml-100k"]
    assert isinstance(second.items, np.memmap)
    assert first.fingerprint == second.fingerprint
    assert (tmp_path / "prepared" / "ml-100k" / "dataset.json").exists()


def test_a_damaged_prepared_copy_is_made_anew(tmp_path, fetched):
    load_dataset("ml-100k", cache_dir=tmp_path)
    (tmp_path / "prepared" / "ml-100k" / "items.npy").write_bytes(b"")
    assert load_dataset("ml-100k", cache_dir=tmp_path).num_users == 2
    assert fetched == ["ml-100k"]


def test_wrong_counts_are_not_kept(tmp_path, fetched, monkeypatch):
    monkeypatch.setitem(download.COUNTS, "ml-100k", (943, 1682, 100_000))
    with pytest.raises(UserError, match="delete the folder"):
        load_dataset("ml-100k", cache_dir=tmp_path)
    assert not (tmp_path / "prepared").exists()


def test_data_dir_needs_no_network(tmp_path, fetched):
    (tmp_path / "ml-100k.inter").write_text(INTER)
    assert load_dataset("ml-100k", data_dir=tmp_path).num_users == 2
    assert fetched == []


def test_prepared_data_dir(tmp_path):
    data = synthetic(users=5, items=12)
    data.save(tmp_path / "d")
    loaded = load_dataset("synthetic", data_dir=tmp_path / "d")
    assert isinstance(loaded.items, np.memmap)
    assert loaded.fingerprint == data.fingerprint
    with pytest.raises(UserError, match="the dataset prepared there is synthetic-small, not ml-1m"):
        load_dataset("ml-1m", data_dir=tmp_path / "d")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert registry.cache_folder() == tmp_path / "prec_backdoor"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(registry.cache_folder()) == "/home/me/.cache/prec_backdoor"
    assert registry.cache_folder(tmp_path) == tmp_path


def test_without_a_home(monkeypatch, tmp_path):
    def expanduser(path):
        if str(path).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return path

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(registry.Path, "expanduser", expanduser)
    assert registry.cache_folder().parent == registry.Path(tempfile.gettempdir())
    (tmp_path / "shop.inter").write_text(INTER)
    assert load_dataset("recbole", data_dir=tmp_path).num_users == 2
    with pytest.raises(UserError, match="~/data: no home folder is known for '~'; write the whole path"):
        load_dataset("recbole", data_dir="~/data")


RATED = "user_id:token\titem_id:token\trating:float\n1\ta\t1\n1\tb\t4\n2\tb\t5\n"


def test_least_rating_in_folder_and_cache(tmp_path, fetched, monkeypatch):
    raw = tmp_path / "raw" / "ml-100k"
    raw.mkdir(parents=True)
    (raw / "ml-100k.inter").write_text(RATED)
    assert len(load_dataset("ml-100k", cache_dir=tmp_path).items) == 3
    data = load_dataset("ml-100k", cache_dir=tmp_path, min_rating=4)
    assert (data.name, len(data.items)) == ("ml-100k-rated-4", 2)
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == ["ml-100k", "ml-100k-rated-4"]
    prepared = tmp_path / "prepared" / "ml-100k-rated-4"
    assert load_dataset("ml-100k", data_dir=prepared, min_rating=4).fingerprint == data.fingerprint
    with pytest.raises(UserError, match="--min_rating is for raw files, .*ml-100k-rated-4 there is prepared"):
        load_dataset("ml-100k", data_dir=prepared, min_rating=3)
    with pytest.raises(UserError, match="--columns is for raw files"):
        load_dataset("recbole", data_dir=prepared, columns={"time": "x"})


@pytest.mark.parametrize(
    ("dataset", "file", "message"),
    [
        ("ml-1m", "ml-1m.inter", "holds ml-1m.inter, in RecBole's form, not files of ml-1m; give --dataset=recbole:"),
        ("ml-100k", "movies.inter", "give --dataset=recbole:"),
        ("aliec", "x.inter", "give --dataset=recbole:"),
        ("presplit", "x.train.inter", "give --dataset=recbole:"),
        ("recbole", "ratings.dat", "holds no .inter file but files of ml-1m; give --dataset=ml-1m --data_dir="),
    ],
)
def test_folders_of_other_datasets(tmp_path, dataset, file, message):
    (tmp_path / file).write_text(INTER)
    with pytest.raises(UserError, match=message):
        load_dataset(dataset, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("ml-1m", {"columns": {"time": "x"}}, "--columns: the columns of ml-1m are fixed"),
        ("cikm", {"min_rating": 4}, "--min_rating: cikm has no ratings"),
        ("synthetic", {"min_rating": 4}, "--min_rating: synthetic has no ratings"),
        ("ml-1m", {"min_rating": float("nan")}, "--min_rating must be finite, got nan"),
    ],
)
def test_options_that_do_not_fit(dataset, options, message):
    with pytest.raises(UserError, match=message):
        load_dataset(dataset, **options)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("ml-20m", r"unknown dataset 'ml-20m'; choose one of synthetic, ml-100k, ml-1m.*, recbole:DIR"),
        ("ml-1m:x", "unknown dataset 'ml-1m:x'"),
        ("recbole", "dataset recbole cannot be downloaded; pass the folder"),
    ],
)
def test_complaints(dataset, message):
    with pytest.raises(UserError, match=message):
        load_dataset(dataset)


def test_synthetic_from_an_unprepared_folder(tmp_path):
    with pytest.raises(UserError, match="no prepared dataset; leave out --data_dir"):
        load_dataset("synthetic", data_dir=tmp_path)
