"""Two programs started at once in one workdir, many times: one owns it, the other is refused, nothing is damaged.

python -m tests.faults.owners --pairs=50
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from prec_backdoor.storage import checkpoints

PROGRAM = (
    "-m",
    "launch.pretrain",
    "--synthetic_users=60",
    "--synthetic_items=80",
    "--k_core=2",
    "--group=gender=F",
    "--epochs=2",
)
PROGRAM += ("--embed_dim=8", "--feedforward_dim=8", "--num_layers=1", "--max_length=8", "--checkpoint_seconds=0")


def race(folder: Path) -> str:
    """Starts two owners and returns how it went: "refused" or "in turn"; raises an AssertionError if anything is damaged."""
    command = (sys.executable, *PROGRAM, f"--workdir={folder}")
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.communicate(), process.returncode) for process in pair]
    statuses = sorted(status for _, status in ended)
    errors = "".join(err for (_, err), _ in ended)
    assert statuses in ([0, 2], [0, 0]), (statuses, errors)
    assert statuses == [0, 0] or ("in use by process" in errors and errors.count("\n") == 1), errors
    metadata = checkpoints.load(folder / "pretrain").metadata
    assert metadata["finished"]
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2  # one record an epoch
    return "refused" if 2 in statuses else "in turn"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=50)
    outcomes = []
    with tempfile.TemporaryDirectory() as root:
        for number in range(parser.parse_args().pairs):
            outcomes.append(race(Path(root) / str(number)))
            print(f"\r{number + 1} pairs: one refused {outcomes.count('refused')}, in turn {outcomes.count('in turn')}", end="")
    print(", damaged 0")


if __name__ == "__main__":
    main()
