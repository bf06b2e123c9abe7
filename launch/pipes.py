"""Output whose reader has left, as in `| head`."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_pipe() -> Iterator[None]:
    """Exits in silence, with the status of a program that SIGPIPE has ended, once nobody reads the standard output."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it exits
        sys.exit(128 + signal.SIGPIPE)
