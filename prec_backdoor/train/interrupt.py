"""Ctrl-C at a point where nothing is lost."""

import signal
import threading


class Interrupt:
    """Within this context the first Ctrl-C only sets `requested`, so that work can be saved; the second stops at once."""

    def __init__(self):
        self.requested = False

    def __enter__(self):
        self._previous = None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_):
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _on_signal(self, *_):
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
