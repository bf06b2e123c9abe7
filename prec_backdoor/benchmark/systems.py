"""What is measured: a line a system.

A system is a generator function of a Job: it makes everything ready and yields what is to be known of it, and from then on does
some work each time that it is asked for the next record of what it did ("positions", "sequences", "steps", "loss"; "users"). A
loss may be an array on a device, which is read at the end of a turn, so that no step waits for it.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

OURS = "prec_backdoor"
PLAIN_JIT = "plain_jit"
MAPPED = "mapped_models"
MACHINE = "ceilings"
PEERS = "pip install 'prec_backdoor[bench]'"


class System(NamedTuple):
    """Where a system is (a module here, a function there), the package that it needs, and whether it is meant for a GPU alone."""

    module: str
    function: str
    needs: str | None = None
    for_gpu: bool = False

    def load(self):
        return getattr(importlib.import_module(f"prec_backdoor.benchmark.{self.module}"), self.function)


SYSTEMS = {
    "train": {
        OURS: System("ours", "train"),
        PLAIN_JIT: System("ours", "train_plain_jit"),
        MAPPED: System("ours", "train"),
        "torch_all_positions": System("torch_train", "train_all_positions", "torch"),
        "torch_compile": System("torch_train", "train_compiled", "torch", for_gpu=True),
        "torch_cuda_graphs": System("torch_train", "train_cuda_graphs", "torch", for_gpu=True),
        "torch_sparse_adam": System("torch_train", "train_sparse_adam", "torch"),
        "torch_row_per_position": System("torch_train", "train_row_per_position", "torch"),
        "recbole": System("recbole_train", "train", "recbole"),
    },
    "evaluate": {
        OURS: System("ours", "evaluate"),
        "torch_topk": System("torch_rank", "evaluate_top_k", "torch"),
        "released_argsort": System("torch_rank", "evaluate_argsort", "torch"),
    },
    "machine": {MACHINE: System("machine", "ceilings")},
}


def available(task: str) -> list[str]:
    """Systems of a task whose packages are installed."""
    return [name for name, system in SYSTEMS[task].items() if not system.needs or importlib.util.find_spec(system.needs)]


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU, for whose sake alone some systems are measured."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def missing() -> list[str]:
    """Packages that are not installed and that some system needs."""
    needed = {system.needs for systems in SYSTEMS.values() for system in systems.values() if system.needs}
    return sorted(name for name in needed if not importlib.util.find_spec(name))
