"""The process of one system: makes it ready, and works in turns that the parent gives it.

`python -m prec_backdoor.benchmark.worker JOB`; a line of JSON comes out when it is ready, and one after each turn, for which a
line with the least number of seconds goes in.
"""

import json
import os
import sys
import time

from prec_backdoor.benchmark.job import Job
from prec_backdoor.benchmark.machine import peak_rss_mb
from prec_backdoor.benchmark.systems import SYSTEMS


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries may print; the channel to the parent stays clean
    job = Job(**json.loads(sys.argv[1]))
    started = time.perf_counter()
    work = SYSTEMS[job.task][job.system].load()(job)
    about = next(work)
    prepared = time.perf_counter()
    first, first_seconds = _timed(work)
    second, second_seconds = _timed(work)
    ready = {
        **about,
        "prepare_seconds": prepared - started,
        # What the first call takes beyond the second one's pace: compiling, and whatever else is done once.
        "compile_seconds": max(0.0, first_seconds - second_seconds * first.get("steps", 1) / second.get("steps", 1)),
        "records": [first, second],
        "peak_rss_mb": peak_rss_mb(),
    }
    print(json.dumps(ready), file=replies)
    for line in sys.stdin:
        least, records = float(line), []
        started = time.perf_counter()
        while not records or time.perf_counter() - started < least:
            records.append(next(work))
        records = [_read(record) for record in records]
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "records": records, "peak_rss_mb": peak_rss_mb()}), file=replies)


def _timed(work) -> tuple[dict, float]:
    started = time.perf_counter()
    return _read(next(work)), time.perf_counter() - started


def _read(record: dict) -> dict:
    """The record with its loss as a number, which waits until the work is done."""
    return record | {"loss": float(record["loss"])} if "loss" in record else record


if __name__ == "__main__":
    main()
