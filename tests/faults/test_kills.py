"""The soak in short, and that it would notice."""

import pytest

from faults import soak
from faults.soak import Seen, Stage

SHORT = ("--usages=zero_shot", "--epochs=50", "--seeds=0", "--checkpoint_seconds=0.1")
BEFORE = Seen({"clean/pretrain": Stage(20, False, "a"), "clean/finetune": Stage(9, True, "b")}, {("clean/pretrain", 10): ["x\n"]})


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(tmp_path):
    found = soak.soak(kills=3, seed=1, folder=tmp_path, length=SHORT)
    assert (found["kills"], found["resumed"], found["lost"], found["equal"]) == (3, 3, 0, True)


def test_the_soak_notices_what_is_lost():
    def lost(stages=None, records=None):
        return soak.lost(BEFORE, Seen(BEFORE.stages | (stages or {}), BEFORE.records | (records or {})))

    assert not lost({"clean/pretrain": Stage(30, True, "c")}, {("clean/pretrain", 20): ["y\n"]})
    assert len(lost({"clean/pretrain": Stage(10, False, "a")})) == 1  # gone back
    assert len(lost({"clean/finetune": Stage(9, True, "c")})) == 1  # a finished one is another
    assert len(lost(records={("clean/pretrain", 10): ["z\n"]})) == 1  # taken again though it was saved
    assert len(soak.lost(BEFORE, Seen({}, BEFORE.records))) == 2
