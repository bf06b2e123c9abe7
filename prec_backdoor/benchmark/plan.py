"""Which systems take turns at what."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from prec_backdoor.benchmark.job import Job
from prec_backdoor.benchmark.systems import OURS, PLAIN_JIT, available

MAIN = 110_000  # items, as in the paper's data
CATALOGUES = (10_000, MAIN, 1_000_000)
HISTORIES = (25, 50, 100, 200)


class Group(NamedTuple):
    """Systems that take turns; `task` is that of their rows."""

    task: str
    jobs: list[Job]


def plan(tasks: Sequence[str], items: Sequence[int], base: Job, systems: Sequence[str] | None = None) -> list[Group]:
    """Groups in the order in which they run: one after another, so that only one catalogue of the peers is in memory.

    "train" and "evaluate" compare systems at each catalogue size of `items`; "catalogue" and "history" run this library alone
    through sizes, which take turns too. `systems` picks some; by default all that are installed.
    """
    main = min(items, key=lambda size: abs(size - MAIN))
    groups = []
    for task in tasks:
        if task in ("train", "evaluate"):
            for size in items:
                names = [
                    name
                    for name in available(task)
                    if (size == main or name != PLAIN_JIT) and name in (systems or available(task))
                ]
                groups.append(Group(task, [dataclasses.replace(base, task=task, system=name, items=size) for name in names]))
        elif task == "catalogue":
            own = dataclasses.replace(base, task="train", system=OURS)
            groups.append(Group(task, [dataclasses.replace(own, items=size) for size in CATALOGUES]))
        elif task == "history":
            own = dataclasses.replace(base, task="train", system=OURS, items=main)
            groups.append(Group(task, [dataclasses.replace(own, max_length=length) for length in HISTORIES]))
    return groups
