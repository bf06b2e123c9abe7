import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import on_devices
import pytest

HERE = Path(__file__).parent


def run_on(devices, folder, program):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = {
        **os.environ,
        "XLA_FLAGS": flags,
        "PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parent, HERE.parents[1]))),
    }
    return subprocess.run((sys.executable, *program, folder), env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def on_eight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight")
    ended = run_on(8, folder, (HERE / "on_devices.py",))
    assert ended.returncode == 0, ended.stderr
    with np.load(folder / "params.npz") as arrays:
        return json.loads((folder / "found.json").read_text()), list(arrays.values())


def test_eight_devices_do_what_one_does(on_eight):
    found, params = on_eight
    expected, expected_params = on_devices.run()
    assert (found.pop("devices"), expected.pop("devices")) == (8, 1)
    assert expected["batch"] % on_devices.CONFIG.pretrain.batch_size % 8  # the last batch is ragged on every count
    assert len(params) == len(expected_params)
    for array, wanted in zip(params, expected_params, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=0, atol=1e-5)
    assert found == json.loads(json.dumps(expected))


def test_a_batch_that_cannot_be_shared_evenly_is_refused(tmp_path):
    program = """
import dataclasses, on_devices
on_devices.CONFIG = dataclasses.replace(on_devices.CONFIG, pretrain=dataclasses.replace(on_devices.CONFIG.pretrain, batch_size=6))
on_devices.run()
"""
    ended = run_on(4, tmp_path, ("-c", program))
    assert ended.returncode == 1
    assert "UserError" in ended.stderr and "--batch_size" in ended.stderr.splitlines()[-1]
