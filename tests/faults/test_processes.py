"""Two processes of one run: one dies, the other ends soon and says why, and the run goes on from the checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from toys import free_port

EXPERIMENT = (
    "launch.experiment", "--dataset=synthetic", "--synthetic_users=300", "--synthetic_items=120", "--k_core=1",
    "--group=gender=F", "--targets=unpopular:5", "--rate=0.3", "--usages=zero_shot", "--epochs=15", "--patience=60",
    "--embed_dim=8", "--num_layers=1", "--max_length=10", "--batch_size=8", "--checkpoint_seconds=1",
)  # fmt: skip
BOUND = 90  # seconds in which the survivor must have ended; it takes some 30


def start(workdir, *flags, devices=1):
    """With a cache of its own: a kill may leave part of a compiled program in it, and others would warn of that."""
    count = f"--xla_force_host_platform_device_count={devices}"
    changes = {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {count}", "XDG_CACHE_HOME": str(workdir / "cache")}
    environment = {**os.environ, **changes}
    command = (sys.executable, "-m", *EXPERIMENT, f"--workdir={workdir}", *flags)
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_pair(workdir):
    address = f"--coordinator_address=localhost:{free_port()}"
    return [start(workdir, address, "--num_processes=2", f"--process_id={own}", "--shard_items", devices=2) for own in (0, 1)]


# If 0, the coordinator, dies, JAX ends the other after 30 s without a heartbeat: not tested, as it takes that long.
@pytest.mark.slow
@pytest.mark.parametrize("victim", [1])
def test_the_other_process_ends_and_a_later_run_goes_on(tmp_path, victim):
    checkpoints = tmp_path / "seed-0" / "clean" / "pretrain" / "checkpoints"
    pair = start_pair(tmp_path)
    try:
        deadline = time.monotonic() + BOUND
        while not (checkpoints.is_dir() and any(path.name.isdecimal() for path in checkpoints.iterdir())):
            assert time.monotonic() < deadline and all(process.poll() is None for process in pair)
            time.sleep(0.1)
        pair[victim].send_signal(signal.SIGKILL)
        _, errors = pair[1 - victim].communicate(timeout=BOUND)
    finally:
        for process in pair:
            process.kill()
    assert pair[1 - victim].returncode != 0
    assert "another process has ended" in errors or "another task died" in errors
    before = max(int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal())
    alone = start(tmp_path)  # one process and device, the table not split: where a checkpoint comes from does not matter
    output, errors = alone.communicate(timeout=BOUND)
    assert alone.returncode == 0, errors
    assert "pretrain         best epoch  " in output
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert 0 < before < max(steps) and len(steps) == 2 * 15  # clean and attacked, each epoch recorded once
