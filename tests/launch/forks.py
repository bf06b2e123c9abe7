"""Programs in forks of a process that has imported the large libraries; that takes longer than most of them run here."""

import gc
import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# None of ours, that each program imports itself, and none that starts threads, as polars does: a fork would lack them.
LIBRARIES = ("flax.linen", "jax.experimental.multihost_utils", "jax.experimental.pallas.triton", "jinja2", "optax")
LIBRARIES += ("matplotlib.backends.backend_agg", "matplotlib.figure", "orbax.checkpoint", "scipy.stats", "tabulate")
LIBRARIES += ("tensorboardX", "tqdm")
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(list(LIBRARIES))


def run_program(command, environment, folder=ROOT):
    """(program, *arguments) -> (exit status, standard output, standard error); started in `folder`."""
    program, *arguments = map(str, command)
    with tempfile.TemporaryDirectory() as temporary:
        output = [Path(temporary, stream) for stream in ("out", "err")]
        process = _forks.Process(target=_become, args=([f"launch.{program}", *arguments], environment, output, folder))
        process.start()
        process.join()
        return (process.exitcode, *(path.read_text() for path in output))


def _become(command, environment, output, folder):
    """python -m COMMAND."""
    gc.freeze()  # what the libraries made: a tenth of the time of a program goes into looking through it
    gc.set_threshold(50_000, 20, 50)
    for stream, path in enumerate(output, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(ROOT))
    sys.dont_write_bytecode = False  # as in conftest.py: else each program would compile all our modules, longer than most run
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
