"""A profiler trace of a few training steps, of bounded size however long the run is."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from tqdm import tqdm

TRACED_CALL = 1  # counted from 0: the first call of a stage still waits for memory


class StepTrace:
    """Traces one call of the devices, the second one of the first stage that makes two, and then no other.

    That call takes at most eight steps (`progress.next_pace`).
    """

    def __init__(self, folder: str | Path, say: Callable[[str], None] = lambda line: tqdm.write(line, file=sys.stdout)):
        self.folder, self.done, self._say = Path(folder).expanduser(), False, say

    @contextlib.contextmanager
    def around(self, call: int) -> Iterator[None]:
        """Traces what runs within, if it is the call to trace; `call` counts the calls of the stage."""
        if self.done or call != TRACED_CALL:
            yield
            return
        self.done = True
        with jax.profiler.trace(self.folder):
            yield
        traces = sorted(self.folder.glob("plugins/profile/*/*.trace.json.gz"))
        look = f"open {traces[-1]} in https://ui.perfetto.dev" if traces else f"tensorboard --logdir={self.folder}"
        self._say(f"profile  {self.folder}: a few training steps; to look at them, {look}")
