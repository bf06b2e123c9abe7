"""From what the systems told to the rows of benchmark.json."""

from collections.abc import Sequence

import numpy as np

from prec_backdoor.benchmark.job import FIRST, LAST
from prec_backdoor.benchmark.peaks import Peak
from prec_backdoor.benchmark.systems import OURS, PLAIN_JIT
from prec_backdoor.benchmark.turns import Measured

RATES = {"positions": "positions_per_second", "users": "users_per_second"}
# Their steps are alike, so that their losses fall alike.
WHOLE_SEQUENCES = (OURS, PLAIN_JIT, "torch_all_positions", "torch_compile", "torch_cuda_graphs", "torch_sparse_adam")


def ceilings(machine: Measured) -> dict:
    """The best that the machine did in any turn, and what it told of itself."""
    records = machine.records()
    about = {name: value for name, value in machine.ready.items() if isinstance(value, str | int)}
    return about | {name: max(record[name] for record in records) for name in (records[0] if records else ())}


def group_rows(task: str, group: Sequence[Measured], machine: dict, peak: Peak | None = None) -> list[dict]:
    """Rows of systems that took turns; failed ones have none.

    Args:
      task: the row's; a group that runs through sizes has another name than its jobs.
      machine: what `ceilings` gave.
      peak: of the device, if it is known.
    """
    sound = [each for each in group if each.turns and not each.failure]
    whole = [each for each in sound if each.job.system in WHOLE_SEQUENCES and each.job.task == "train"]
    own = next((each for each in sound if each.job.system == OURS), None)
    mark = min((_trained(each)[-1] for each in whole), default=0.0)
    if own in whole:
        mark = max(filter(lambda end: end <= mark + 0.5, _trained(own)), default=mark)  # where a call of ours ended
    return [_row(task, each, machine, mark) | _of_peak(each, peak) | _ratio(own, each) for each in sound]


def _trained(measured: Measured) -> np.ndarray:
    """Sequences trained by the end of each record."""
    return np.cumsum([record["sequences"] for record in measured.records()])


def losses(records: Sequence[dict], sequences: float) -> tuple[float, float]:
    """Mean loss of the FIRST steps, and of the LAST steps up to when `sequences` of them had been trained."""
    steps, trained = (np.cumsum([record[name] for record in records]) for name in ("steps", "sequences"))
    last = max(0, np.searchsorted(trained, sequences + 0.5) - 1)
    early = steps <= max(FIRST, steps[0])
    late = (np.arange(len(records)) <= last) & (steps > steps[last] - LAST)
    weights, values = (np.array([record[name] for record in records]) for name in ("positions", "loss"))
    return tuple(float(np.average(values, weights=weights * chosen)) for chosen in (early, late))


def _row(task: str, measured: Measured, machine: dict, mark: float) -> dict:
    job, ready = measured.job, measured.ready
    unit = next(name for name in RATES if name in ready["records"][0])
    rates = _rates(measured, unit)
    row = {
        "task": task,
        "system": job.system,
        "items": job.items,
        RATES[unit]: float(np.median(rates)),
        "least": float(rates.min()),
        "most": float(rates.max()),
        "step_ms": float(np.median([1e3 * turn["seconds"] / _total(turn, "steps") for turn in measured.turns])),
        "peak_rss_mb": max(part["peak_rss_mb"] for part in (ready, *measured.turns)),
        "compile_seconds": ready["compile_seconds"],
        "prepare_seconds": ready["prepare_seconds"],
        "max_length": job.max_length,
        "sequences": job.sequences,
        "embed_dim": job.embed_dim,
        "feedforward_dim": job.feedforward_dim,
        "layers": job.layers,
        "heads": job.heads,
        "dtype": job.dtype,
        "models": job.models,
    }
    if unit == "positions":
        records = measured.records()
        reached = sum(record["sequences"] for record in records)
        at = min(mark, reached) if job.system in WHOLE_SEQUENCES else reached
        first, last = losses(records, at)
        row |= {"loss_first": first, "loss": last, "loss_after_sequences": round(at)}
    for fraction, ceiling, needed in (("gemm_fraction", "gemm_gflops", "flops"), ("copy_fraction", "copy_gb_per_s", "bytes")):
        if ready.get(needed) and machine.get(ceiling):
            row[fraction] = row[RATES[unit]] * ready[needed] / machine[ceiling] / 1e9
    kept = ("item_updates", "batch_rows", "fill", "state_mb", "devices")
    return row | {name: ready[name] for name in kept if name in ready}


def _of_peak(measured: Measured, peak: Peak | None) -> dict:
    """Throughput as shares of the device's peaks: arithmetic in the type of the products, and bytes that must be moved."""
    if peak is None:
        return {}
    job, ready = measured.job, measured.ready
    unit = next(name for name in RATES if name in ready["records"][0])
    rate = float(np.median(_rates(measured, unit)))
    tflops = peak.float32 if job.task == "evaluate" else {"float32": peak.default, "bfloat16": peak.bfloat16}[job.dtype]
    shares = {}
    for name, needed, most in (
        ("peak_fraction", "flops", 1e12 * tflops),
        ("bandwidth_fraction", "bytes", 1e9 * peak.gb_per_s),
    ):
        if ready.get(needed) and most:
            shares[name] = rate * ready[needed] / most
    return shares


def _ratio(own: Measured | None, other: Measured) -> dict:
    """How many times as fast as this system ours is: the median over rounds, each against its own."""
    if own is None or other.job.system == OURS:
        return {}
    unit = next(name for name in RATES if name in own.ready["records"][0])
    rounds = min(len(own.turns), len(other.turns))
    return {"ours_times": float(np.median(_rates(own, unit)[:rounds] / _rates(other, unit)[:rounds]))}


def _rates(measured: Measured, unit: str) -> np.ndarray:
    return np.array([_total(turn, unit) / turn["seconds"] for turn in measured.turns])


def _total(turn: dict, name: str) -> float:
    return sum(record[name] for record in turn["records"])
