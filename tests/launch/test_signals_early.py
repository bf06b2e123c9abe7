"""Ctrl-C while a program imports."""

import signal
import time


def test_ctrl_c_during_imports_ends_at_once_without_a_traceback(start):
    for seconds in (0.3, 0.8, 1.3):
        process = start("recommend", "--checkpoint=nowhere", "--history=1")
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert "Traceback" not in err
        if process.returncode != 2:  # 2: it was ready before, and says that there is no checkpoint
            assert process.returncode in (130, -2) and not out
