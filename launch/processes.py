"""Several processes that work as one: their flags, and how each joins the others."""

import os
import sys

import jax
from absl import flags

from prec_backdoor.errors import UserError

ADDRESS = flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0, where all processes meet.")
NUMBER = flags.DEFINE_integer("num_processes", None, "How many processes run this same command.", lower_bound=1)
OWN = flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.", lower_bound=0)
flags.DEFINE_bool("shard_items", False, "Split the item table over all devices, if one is too small for it.")

SECONDS_TO_MEET = 120
SECONDS_WITHOUT_A_SIGN = 30  # of another process, until it counts as dead and this one ends too


def join() -> None:
    """Meets the other processes, if there are any; from then on process 0 alone writes files and speaks on stdout.

    Without flags, processes that SLURM or a TPU pod has started find each other by themselves.

    Raises:
      UserError: flags that do not fit together, or the others do not come.
    """
    given = {flag.name: flag.value for flag in (ADDRESS, NUMBER, OWN)}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        if not _started_by_a_cluster():
            return
        given = {}
    elif missing:
        raise UserError(f"--{missing[0]}: needed too, as several processes are wanted; or leave all of {', '.join(given)} out")
    elif OWN.value >= NUMBER.value:
        raise UserError(f"--process_id: {OWN.value} is none of 0 to {NUMBER.value - 1}, as --num_processes says")
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
