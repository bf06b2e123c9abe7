"""Ctrl-C and SIGTERM: work is saved before the program ends, and the signal is acknowledged at once."""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME = 0.5  # seconds within which signals count as one: a launcher and its process group may each pass one on
PROMPT = 0.2  # seconds within which a program that has nothing to save ends by itself, without an acknowledgement


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end: `signum`; `saved` says what is saved of unfinished work, if there was any."""

    def __init__(self, signum: int, saved: str = ""):
        super().__init__(signum, saved)
        self.signum, self.saved = signum, saved


class Interrupt:
    """Within this context the first signal only sets `requested` and `signum`, so that work can be saved; a second one stops."""

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

    Python's handlers wait for compiled code to return, and a large program compiles for long. A thread therefore acknowledges the
    first signal and ends the process at the second. All files are written so that this loses no more than a power cut.

    After a stop both signals are ignored while the process ends, as one that is passed on twice may come that late.
    """
    stopped = False

    def stop(signum, _):
        nonlocal stopped
        if not stopped:
            stopped = True
            raise Stopped(signum)

    read, write = os.pipe()
    os.set_blocking(write, False)
    threading.Thread(target=_watch, args=(read,), daemon=True).start()
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


def _watch(read: int) -> None:
    """Reads the numbers of signals: acknowledges the first, and ends the process at the next that is more than SAME later."""
    first = None
    with open(read, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] not in SIGNALS:
                continue
            if first is None:
                first = time.monotonic()
                _acknowledge(number[0], read)
            elif time.monotonic() - first > SAME:
                _say("stopped at once; the same command resumes from the last checkpoint")
                os._exit(128 + number[0])


def _acknowledge(signum: int, read: int) -> None:
    again = f"{'Ctrl-C' if signum == signal.SIGINT else 'SIGTERM'} again stops at once"
    if isinstance(getattr(signal.getsignal(signum), "__self__", None), Interrupt):
        _say(f"stopping: saves at the next step; {again}")
        return
    closed = select.poll()
    closed.register(read, 0)  # no event but the closing of the other end, which `stoppable` does when the program ends
    if not closed.poll(1000 * PROMPT):
        _say(f"stopping; {again}")


def _say(line: str) -> None:
    start = "\n" if sys.stderr.isatty() else ""  # the cursor is behind a progress bar and ^C
    os.write(2, f"{start}{line}\n".encode())


def _handle(handler: Callable | signal.Handlers) -> dict:
    """Sets `handler` for both signals and returns what was set before.

    A signal that is ignored, as in the background of a shell, stays ignored. Only the main thread may set handlers.
    """
    in_main = threading.current_thread() is threading.main_thread()
    taken = [signum for signum in SIGNALS if in_main and signal.getsignal(signum) is not signal.SIG_IGN]
    return {signum: signal.signal(signum, handler) for signum in taken}


def _restore(previous: dict) -> None:
    for signum, before in previous.items():
        signal.signal(signum, before or signal.SIG_DFL)
