"""Runs in several processes: their flags, and how each process joins the others."""

import os
import sys

import jax
from absl import flags

from prec_backdoor.errors import UserError

from . import flag

JOIN_SECONDS = 120
HEARTBEAT_SECONDS = 30  # a process without a heartbeat for so long counts as dead, and the others end


def define_flags() -> None:
    """The flags of a run on several devices and processes."""
    flag.define("coordinator_address", None, "devices", "HOST:PORT of process 0, which all processes join.", str)
    flag.define("num_processes", None, "devices", "Number of processes that run this same command.", int, minimum=1)
    flag.define("process_id", None, "devices", "Number of this process, from 0.", int, minimum=0)
    help = "Split the item table over all devices, for a catalogue larger than the memory of one."
    flag.define("shard_items", False, "devices", help)


def join() -> None:
    """Joins the other processes of the run, if any; only process 0 writes files and prints to stdout.

    Without flags, processes that SLURM or a TPU pod has started find each other.

    Raises:
      UserError: the flags do not fit together, or the other processes do not join in time.
    """
    given = {name: flags.FLAGS[name].value for name in ("coordinator_address", "num_processes", "process_id")}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        if not _started_by_a_cluster():
            return
        given = {}
    elif missing:
        raise UserError(f"--{missing[0]}: is missing; give all of {', '.join(given)}, or none")
    elif given["process_id"] >= given["num_processes"]:
        raise UserError(f"--process_id: must be < --num_processes={given['num_processes']}, got {given['process_id']}")
    try:
        jax.distributed.initialize(
            **given,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--coordinator_address: the processes did not all join within {JOIN_SECONDS} s ({reason})") from error
    if jax.process_index():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the rest of the program)


def _started_by_a_cluster() -> bool:
    of_slurm = int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ
    return of_slurm or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
