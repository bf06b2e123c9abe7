"""Which systems take turns at what."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from prec_backdoor.benchmark.job import Job
from prec_backdoor.benchmark.rows import WHOLE_SEQUENCES
from prec_backdoor.benchmark.systems import MAPPED, OURS, PLAIN_JIT, SYSTEMS, available, has_gpu

MAIN = 110_000  # items, as in the paper's data
CATALOGUES = (10_000, MAIN, 1_000_000)
HISTORIES = (25, 50, 100, 200)
BATCHES = (256, 1024, 4096)  # sequences of a step
LARGE = {"items": 1_000_000, "max_length": 200, "embed_dim": 256, "feedforward_dim": 1024, "layers": 2, "heads": 4}
DTYPES = ("float32", "bfloat16")


class Group(NamedTuple):
    """Systems that take turns; `task` is that of their rows."""

    task: str
    jobs: list[Job]


def plan(tasks: Sequence[str], items: Sequence[int], base: Job, systems: Sequence[str] | None = None) -> list[Group]:
    """Groups in the order in which they run: one after another, so that only one catalogue of the peers is in memory.

    "train" and "evaluate" compare systems at each catalogue size of `items`, "batches" and "large" those that train on whole
    sequences, at several batch sizes and with a large model; "catalogue" and "history" run this library alone through sizes,
    which take turns too. `systems` picks some; by default all that `default_systems` names.
    """
    main = min(items, key=lambda size: abs(size - MAIN))

    def group(task: str, names: Sequence[str], **sizes) -> Group:
        known = "evaluate" if task == "evaluate" else "train"
        return Group(task, [dataclasses.replace(base, task=known, system=name, **sizes) for name in names])

    def chosen(task: str) -> list[str]:
        names = [name for name in available(task) if not systems or name in systems]
        return [name for name in names if (systems or name in default_systems(task)) and (name != MAPPED or base.models > 1)]

    whole = [name for name in chosen("train") if name in (*WHOLE_SEQUENCES, MAPPED) and name != PLAIN_JIT]
    groups = []
    for task in tasks:
        if task in ("train", "evaluate"):
            for size in items:
                names = [name for name in chosen(task) if size == main or name != PLAIN_JIT]
                groups.append(group(task, names, items=size))
        elif task == "batches":
            groups += [group(task, whole, items=main, sequences=min(number, base.users)) for number in BATCHES]
        elif task == "large":
            groups += [group(task, whole, dtype=dtype, **LARGE) for dtype in DTYPES]
        elif task == "catalogue":
            groups.append(Group(task, [group(task, [OURS], items=size).jobs[0] for size in CATALOGUES]))
        elif task == "history":
            groups.append(Group(task, [group(task, [OURS], items=main, max_length=length).jobs[0] for length in HISTORIES]))
    # A model alone is the same as one of several, and `models` only said what to map.
    alone = [
        Group(each.task, [job if job.system == MAPPED else dataclasses.replace(job, models=1) for job in each.jobs])
        for each in groups
    ]
    return [each for each in alone if each.jobs]


def default_systems(task: str) -> list[str]:
    """Installed systems of a task, without those for a GPU where there is none."""
    return [name for name in available(task) if has_gpu() or not SYSTEMS[task][name].for_gpu]
