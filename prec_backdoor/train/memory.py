"""Memory that tracing and compiling leave behind."""

import ctypes
import gc
import sys
from collections.abc import Callable


def trimmed(call: Callable):
    """What `call()`, which compiles, gives; what is no longer used goes back to the system before and after.

    Of compiling a training step glibc holds on to some 160 MB otherwise.
    """
    _give_back()
    result = call()
    _give_back()
    return result


def _give_back() -> None:
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
        if trim:
            trim(0)
