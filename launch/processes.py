"""Several processes that work as one: their flags, and how each joins the others."""

import os
import sys

import jax
from absl import flags

from launch import flag
from prec_backdoor.errors import UserError

SECONDS_TO_MEET = 120
SECONDS_WITHOUT_A_SIGN = 30  # of another process, until it counts as dead and this one ends too


def define_flags() -> None:
    """The flags of several devices and processes."""
    flag.define("coordinator_address", None, "devices", "HOST:PORT of process 0, where all processes meet.", str)
    flag.define("num_processes", None, "devices", "How many processes run this same command.", int, minimum=1)
    flag.define("process_id", None, "devices", "Which of them this one is, from 0.", int, minimum=0)
    flag.define("shard_items", False, "devices", "Split the item table over all devices, for a catalogue that one cannot hold.")


def join() -> None:
    """Meets the other processes, if there are any; from then on process 0 alone writes files and speaks on stdout.

    Without flags, processes that SLURM or a TPU pod has started find each other by themselves.

    Raises:
      UserError: flags that do not fit together, or the others do not come.
    """
    given = {name: flags.FLAGS[name].value for name in ("coordinator_address", "num_processes", "process_id")}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        if not _started_by_a_cluster():
            return
        given = {}
    elif missing:
        raise UserError(f"--{missing[0]}: needed too; give all of {', '.join(given)}, or none")
    elif given["process_id"] >= given["num_processes"]:
        raise UserError(f"--process_id: must be < --num_processes={given['num_processes']}, got {given['process_id']}")
    try:
        jax.distributed.initialize(
            **given,
            initialization_timeout=SECONDS_TO_MEET,
            heartbeat_timeout_seconds=SECONDS_WITHOUT_A_SIGN,
            shutdown_timeout_seconds=SECONDS_WITHOUT_A_SIGN,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--coordinator_address: the processes did not meet within {SECONDS_TO_MEET} s ({reason})") from error
    if jax.process_index():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the rest of the program)


def _started_by_a_cluster() -> bool:
    of_slurm = int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ
    return of_slurm or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
