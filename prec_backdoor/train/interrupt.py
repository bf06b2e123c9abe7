"""Ctrl-C, and the SIGTERM of a machine that is taken away, at a point where nothing is lost."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME = 0.5  # seconds within which signals are one: a launcher and its process group may each pass it on


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end: `signum`; `saved` says what is kept of unfinished work, if there was any."""

    def __init__(self, signum: int, saved: str = ""):
        super().__init__(signum, saved)
        self.signum, self.saved = signum, saved


class Interrupt:
    """Within this context the first signal only sets `requested` and `signum`, so that work can be saved; the second stops."""

    def __init__(self):
        self.requested, self.signum, self._since = False, signal.SIGINT, 0.0

    def __enter__(self):
        self._previous = _handle(self._on_signal)
        return self

    def __exit__(self, *_):
        _restore(self._previous)

    def _on_signal(self, signum, _):
        now = time.monotonic()
        if not self.requested:
            self.requested, self.signum, self._since = True, signum, now
        elif now - self._since > SAME:
            raise Stopped(signum)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """For a whole program: the first signal outside of `Interrupt` raises `Stopped`, a second ends the process at once.

    Python's own handlers wait for compiled code to return, and a large program compiles for long: the second signal is
    therefore awaited by a thread. All files are written so that this loses no more than a power cut would.

    After a stop both signals are ignored while the process ends: one that is passed on twice may come that late.
    """
    stopped = False

    def stop(signum, _):
        nonlocal stopped
        if not stopped:
            stopped = True
            raise Stopped(signum)

    read, write = os.pipe()
    os.set_blocking(write, False)
    threading.Thread(target=_end_at_second, args=(read,), daemon=True).start()
    previous = _handle(stop)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    except KeyboardInterrupt:
        stopped = True
        raise
    finally:
        if stopped:
            _handle(signal.SIG_IGN)
        else:
            _restore(previous)
        signal.set_wakeup_fd(-1)
        os.close(write)


def _end_at_second(read: int) -> None:
    first = None
    with open(read, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] not in SIGNALS:
                continue
            first = first or time.monotonic()
            if time.monotonic() - first > SAME:
                os.write(2, b"stopped at once; the same command resumes from the last checkpoint\n")
                os._exit(128 + number[0])


def _handle(handler: Callable | signal.Handlers) -> dict:
    """Sets `handler` for both signals where they are not ignored, as in the background; in a thread there can be no handlers.

    Returns what was set before.
    """
    in_main = threading.current_thread() is threading.main_thread()
    taken = [signum for signum in SIGNALS if in_main and signal.getsignal(signum) is not signal.SIG_IGN]
    return {signum: signal.signal(signum, handler) for signum in taken}


def _restore(previous: dict) -> None:
    for signum, before in previous.items():
        signal.signal(signum, before or signal.SIG_DFL)
