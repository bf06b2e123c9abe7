"""The main job under odd environments, homes and limits: it works, or ends in one line; never in a traceback.

python -m tests.faults.environments
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

JOB = "-m launch.experiment --synthetic_users=60 --synthetic_items=80 --k_core=2 --group=gender=F --epochs=1 --finetune_epochs=1"
JOB += " --embed_dim=8 --feedforward_dim=8 --num_layers=1 --max_length=8"
# A user without an entry, who may read everything, as the interpreter may lie in another user's home, and write where all may.
NOBODY = "setpriv --reuid 12345 --regid 12345 --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
NOBODY += " env -u XDG_CACHE_HOME"
CASES = {  # name -> (shell prefix, environment, arguments)
    "as it is": ("", {}, ""),
    "JAX_ENABLE_X64=1": ("", {"JAX_ENABLE_X64": "1"}, ""),
    "JAX_NUMPY_DTYPE_PROMOTION=strict": ("", {"JAX_NUMPY_DTYPE_PROMOTION": "strict"}, ""),
    "JAX_NUMPY_RANK_PROMOTION=raise": ("", {"JAX_NUMPY_RANK_PROMOTION": "raise"}, ""),
    "JAX_DEFAULT_PRNG_IMPL=rbg": ("", {"JAX_DEFAULT_PRNG_IMPL": "rbg"}, ""),
    "JAX_THREEFRY_PARTITIONABLE=0": ("", {"JAX_THREEFRY_PARTITIONABLE": "0"}, ""),
    "JAX_PLATFORMS=cuda, no GPU": ("", {"JAX_PLATFORMS": "cuda"}, ""),
    "LC_ALL=C, UTF-8 mode off, workdir ü": ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "{folder}/ü"),
    "no home, no user entry": (f"{NOBODY} -u HOME", {}, ""),
    "HOME not writable": (f"{NOBODY} HOME=/proc", {}, ""),
    "ulimit -v 3 GB": ("ulimit -v 3000000;", {}, ""),
    "ulimit -n 64": ("ulimit -n 64;", {}, ""),
    "workdir is a file": ("", {}, "/dev/null/x"),
    "batch of 100,000 rows": ("", {}, "{folder}/run --batch_size=100000"),
    "seed beyond 64 bits": ("", {}, "{folder}/run --seeds=99999999999999999999"),
    "learning rate 1e30": ("", {}, "{folder}/run --learning_rate=1e30 --batch_size=1000"),
}


def run(prefix: str, changes: dict[str, str], arguments: str, folder: Path) -> tuple[int, str, str]:
    """Returns exit status, the hr@10 of the last row, and the last line on stderr."""
    target = (arguments or "{folder}/run").format(folder=folder)
    command = f"{prefix} {sys.executable} {JOB} --workdir={target}"
    ended = subprocess.run(command, shell=True, env={**os.environ, **changes}, capture_output=True, text=True, timeout=600)
    errors = ended.stderr.strip().splitlines()
    if any(line.startswith("Traceback") for line in errors):
        return ended.returncode, "", "TRACEBACK"
    table = [line for line in ended.stdout.splitlines() if line.startswith("| fine_tune")]
    return ended.returncode, table[-1].split("|")[4].strip() if table else "", errors[-1][:150] if errors else ""


def main() -> None:
    lines = []
    for name, (prefix, changes, arguments) in CASES.items():
        with tempfile.TemporaryDirectory() as root:
            os.chmod(root, 0o777)
            started = time.monotonic()
            lines.append((name, *run(prefix, changes, arguments, Path(root)), f"{time.monotonic() - started:.0f} s"))
            print(lines[-1], file=sys.stderr)
    print(tabulate(lines, headers=("environment", "status", "HR@10", "stderr", "time"), tablefmt="github"))


if __name__ == "__main__":
    main()
