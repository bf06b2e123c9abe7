#!/bin/sh
# A program as two processes of two CPU devices each, on this one machine, to try what several hosts do:
#   launch/two_processes.sh launch.experiment --dataset=ml-100k --workdir=runs/two --shard_items
# PYTHON chooses the interpreter, PORT (12345) where they meet. What process 1 says is prefixed.
program=${1:?"which program? for example: launch/two_processes.sh launch.experiment --workdir=runs/two"}
shift
export JAX_PLATFORMS=cpu XLA_FLAGS="$XLA_FLAGS --xla_force_host_platform_device_count=2"
meet="--coordinator_address=localhost:${PORT:-12345} --num_processes=2"
"${PYTHON:-python}" -m "$program" "$@" $meet --process_id=1 2>&1 | sed 's/^/process 1: /' >&2 &
trap 'kill $! 2>/dev/null' INT TERM
"${PYTHON:-python}" -m "$program" "$@" $meet --process_id=0
status=$?
wait
exit $status
