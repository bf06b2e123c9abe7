"""Whatever goes wrong in a program becomes one line and an exit status; nobody sees a traceback."""

import errno
import os
from pathlib import Path

import jax
import pytest

from launch import app
from prec_backdoor.errors import UserError
from prec_backdoor.train.interrupt import Stopped

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (UserError("--l2: must be >= 0, got -1"), 2, "error: --l2: must be >= 0, got -1\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x.csv"),
            2,
            "error: x.csv: No such file or directory; check",
        ),
        (NO_SPACE, 2, "error: No space left on device; make room, then run the same command again: it resumes\n"),
        (
            Stopped(15, "pretrain saved at step 3 in runs/a"),
            143,
            "pretrain saved at step 3 in runs/a; terminated; the same command",
        ),
        (KeyboardInterrupt(), 130, "interrupted; the same command resumes\n"),
        (MemoryError(), 1, "error: out of memory ("),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
            1,
            "error: out of memory (RESOURCE_EX",
        ),
        (ZeroDivisionError("division by zero"), 1, "error: unforeseen ZeroDivisionError: division by zero; the traceback is in "),
        (RecursionError("deep\nand deeper"), 1, "error: unforeseen RecursionError: deep; the traceback is in "),
        (UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal not in range"), 1, "error: unforeseen UnicodeEncodeError: "),
        (AssertionError(), 1, "error: unforeseen AssertionError: ; the traceback is in "),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_error_is_one_line_and_a_status(capsys, error, status, says):
    def fail():
        raise error

    assert app._guard(fail) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(says) and err.count("\n") == 1
    if "the traceback is in " in err:
        path = Path(err.partition("the traceback is in ")[2].partition(",")[0])
        assert f"raise error\n{type(error).__name__}" in path.read_text(encoding="utf-8")
        path.unlink()
