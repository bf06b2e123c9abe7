"""The programs. While one imports what it needs, Ctrl-C ends it at once and without a traceback; nothing is under way yet."""

import os
import signal
import sys

_started = os.path.basename(sys.argv[0] if sys.argv else "") in ("-m", "prec-backdoor")
if _started and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # SIG_DFL would not do: polars' own handler swallows what it passes on
