"""A file replaces another once it is on the disk."""

import os

import pytest

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
