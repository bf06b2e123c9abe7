import subprocess
import sys
from pathlib import Path

import pytest

from launch.prepare_data import describe
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.summary import one_line
from prec_backdoor.data.synthetic import synthetic

ROOT = Path(__file__).parents[2]


def prepare(*arguments):
    command = (sys.executable, "-m", "launch.prepare_data", *map(str, arguments))
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_prepares_a_folder_that_loads_as_data_dir(tmp_path):
    sizes = ("--synthetic_users=20", "--synthetic_items=30", "--synthetic_seed=1")
    made = prepare("--dataset=synthetic", *sizes, f"--output={tmp_path / 'd'}")
    assert made.returncode == 0, made.stderr
    data = synthetic(users=20, items=30, seed=1)
    assert made.stdout == f"{one_line(data)}\n{describe(data)}\n{'folder':<25}{tmp_path / 'd'}\n"
    again = prepare("--dataset=synthetic", f"--data_dir={tmp_path / 'd'}", f"--cache_dir={tmp_path}")
    assert again.returncode == 0, again.stderr
    assert Interactions.load(tmp_path / "prepared" / "synthetic-small").fingerprint == data.fingerprint


def test_table():
    table = describe(synthetic(users=500, items=300, seed=0)).splitlines()
    assert [line.split()[0] for line in table[:5]] == ["name", "fingerprint", "users", "items", "interactions"]
    gender = next(line for line in table if line.startswith("gender")).split(maxsplit=1)[1]
    counts = dict(part.split() for part in gender.split(", "))
    assert sum(map(int, counts.values())) == 500
    assert table[-1].endswith("and 8 more")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset=nothing",), "error: unknown dataset 'nothing'"),
        (("--datset=ml-100k",), "error: Unknown command line flag 'datset'"),
        (("--synthetic_users=many",), "error: --synthetic_users=many"),
        (("dataset",), "error: unexpected argument 'dataset'"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    failed = prepare(*arguments)
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.startswith(message)
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("raise KeyboardInterrupt", 130, "interrupted; the same command resumes\n"),
        ("open('/nowhere/x')", 2, "error: /nowhere/x: No such file or directory; check the path and its permissions\n"),
    ],
)
def test_how_programs_end(body, status, message):
    program = f"from launch import app\ndef main():\n    {body}\napp.run(main)"
    ended = subprocess.run((sys.executable, "-c", program), cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (status, message)


def test_a_folder_with_other_files_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    failed = prepare(f"--output={tmp_path}")
    assert failed.returncode == 2
    assert "holds other files" in failed.stderr
    assert (tmp_path / "thesis.tex").exists()
