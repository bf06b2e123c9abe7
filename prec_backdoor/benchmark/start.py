"""How long a user waits: from the start of a training program to its first finished steps."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from prec_backdoor.benchmark.machine import peak_rss_mb

LONGEST = 300  # seconds


def start_rows(program: list[str], items: int, rounds: int, progress: Callable[[str], None]) -> list[dict]:
    """One row with an empty folder of compiled programs and one, of the median of `rounds`, with what the first run left there.

    Args:
      program: arguments of Python; --workdir is added. It writes metrics.jsonl there.

    Raises:
      RuntimeError: the program ends without.
    """
    with tempfile.TemporaryDirectory() as cache:
        runs = []
        for _ in range(1 + rounds):
            runs.append(_time(program, cache))
            progress("start")
    warm = sorted(runs[1:])[len(runs[1:]) // 2]
    return [
        {"task": "start", "system": "prec_backdoor", "items": items, "cache": cache, "seconds": seconds, "peak_rss_mb": memory}
        for cache, (seconds, memory) in (("cold", runs[0]), ("warm", warm))
    ]


def _time(program: list[str], cache: str) -> tuple[float, float]:
    """Seconds until the first line of metrics.jsonl, and the peak of memory by then."""
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryDirectory() as workdir, tempfile.TemporaryFile("w+") as errors:
        metrics = Path(workdir) / "metrics.jsonl"
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *program, f"--workdir={workdir}"],
            stdout=errors,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        try:
            while not (metrics.exists() and metrics.stat().st_size):
                if process.poll() is not None or time.perf_counter() - started > LONGEST:
                    errors.seek(0)
                    lines = errors.read().strip().splitlines() or ["no word from it"]
                    raise RuntimeError(f"{' '.join(program)}: {lines[-1]}")
                time.sleep(0.01)
            return time.perf_counter() - started, peak_rss_mb(process.pid)
        finally:
            process.kill()
            process.wait()
