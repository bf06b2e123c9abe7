import subprocess
import sys

import pytest

from prec_backdoor.errors import UserError
from prec_backdoor.storage.lock import locked

HOLD = """
import sys, time
from prec_backdoor.storage.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    process = subprocess.Popen((sys.executable, "-c", HOLD, tmp_path / "run"), stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path, owner):
    with (
        pytest.raises(UserError, match=rf"run: in use by process {owner.pid} on .*; wait for it to end, or give another"),
        locked(tmp_path / "run"),
    ):
        pass


def test_the_lock_of_a_dead_owner_is_none(tmp_path, owner):
    owner.kill()
    owner.wait()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text().startswith("process ")
    with locked(tmp_path / "run"):  # nor is the one that was given back
        pass
