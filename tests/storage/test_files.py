"""A file replaces another once it is on the disk."""

import os

import numpy as np
import pytest

from prec_backdoor.storage import arrays
from prec_backdoor.storage.files import replacing


@pytest.fixture
def calls(monkeypatch):
    """What the system is asked for, in order: ("sync", inode) and ("replace", inode)."""
    made, fsync, replace = [], os.fsync, os.replace

    def recorded_fsync(descriptor):
        made.append(("sync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def recorded_replace(source, target):
        made.append(("replace", os.stat(source).st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return made


def test_a_file_is_on_the_disk_before_it_replaces_and_its_name_after(tmp_path, calls):
    path = tmp_path / "results.json"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
    file, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert calls == [("sync", file), ("replace", file), ("sync", folder)]
    assert path.read_text() == "new"


def test_the_texts_of_a_checkpoint_are_on_the_disk(tmp_path, calls):
    """Orbax syncs arrays alone."""
    arrays.write(tmp_path / "5", {"params": {"a": np.ones(3, np.float32)}}, {"metadata": {"step": 5}})
    synced = {inode for what, inode in calls if what == "sync"}
    paths = ("5/metadata/metadata", "5/metadata", "5", ".")
    assert {(tmp_path / path).stat().st_ino for path in paths} <= synced


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    for path, kind in ((tmp_path / "none" / "x.json", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(kind) as found, replacing(path) as partial:
            partial.write_text("{}")
        assert found.value.filename == str(path)
