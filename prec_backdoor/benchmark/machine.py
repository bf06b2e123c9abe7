"""The machine: what it is, how fast it multiplies and copies at best, how much memory a process has taken."""

import importlib.metadata
import importlib.util
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from prec_backdoor.benchmark.job import Job, threads

SIDE, ACCELERATOR_SIDE = 1536, 8192  # of the matrices multiplied
COPIED = 1 << 25  # floats, far more than any cache holds


def ceilings(job: Job) -> Iterator[dict]:
    """A system that measures the machine: float32 GEMM by numpy and by JAX, copying on all threads; the best of several."""
    del job
    import jax
    import jax.numpy as jnp

    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"
    multiply = jax.jit(jnp.matmul)
    side = SIDE if on_cpu else ACCELERATOR_SIDE
    matrix = np.random.default_rng(0).random((side, side), np.float32)
    here = jnp.asarray(matrix)
    products = [lambda: multiply(here, here).block_until_ready(), *([lambda: matrix @ matrix] if on_cpu else [])]
    copy = _threaded_copy() if on_cpu else _device_copy()
    yield {"device": device.device_kind, "backend": device.platform, "devices": jax.device_count(), "jax": jax.__version__}
    while True:
        quickest = min(_best(product) for product in products)
        yield {"gemm_gflops": 2 * side**3 / quickest / 1e9, "copy_gb_per_s": 2 * COPIED * 4 / _best(copy) / 1e9}


def describe() -> dict:
    """Processor, cores, memory, versions and the load before anything is measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    versions = {
        name: importlib.metadata.version(name) for name in ("numpy", "torch", "recbole") if importlib.util.find_spec(name)
    }
    return {
        "processor": _processor(),
        "threads": threads(),
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions,
        "load_before": round(os.getloadavg()[0], 2),
    }


def peak_rss_mb(process: int | str = "self") -> float:
    """Most memory (MB of 1e6 bytes) that a process has had resident at once.

    On Linux from /proc: what getrusage tells there may be the parent's, from before it started this program.
    """
    try:
        with open(f"/proc/{process}/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    except (OSError, KeyError):
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _best(work: Callable, times: int = 3) -> float:
    """Seconds of the quickest."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _threaded_copy() -> Callable[[], None]:
    source, target = np.ones(COPIED, np.float32), np.zeros(COPIED, np.float32)
    pool = ThreadPoolExecutor(threads())
    pairs = list(zip(np.array_split(target, threads()), np.array_split(source, threads()), strict=True))
    return lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs))


def _device_copy() -> Callable[[], None]:
    import jax
    import jax.numpy as jnp

    source = jnp.ones(COPIED, jnp.float32)
    add_one = jax.jit(lambda x: x + 1)
    return lambda: add_one(source).block_until_ready()
