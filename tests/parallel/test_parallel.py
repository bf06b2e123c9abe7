import json
import os
import subprocess
import sys
from pathlib import Path

import backbones_on_devices
import numpy as np
import on_devices
import pytest
from toys import free_port

HERE = Path(__file__).parent


def start_on(devices, *program):
    """Starts a program with so many CPU devices."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    path = os.pathsep.join(map(str, (HERE, HERE.parent, HERE.parents[1])))
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": path}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen((sys.executable, *map(str, program)), env=environment, **pipes)


@pytest.mark.parametrize(
    ("processes", "devices", "layout", "triggers"),
    [(1, 8, "whole", 1), pytest.param(2, 2, "shard", 2, marks=pytest.mark.slow)],
)
def test_many_devices_do_what_one_does(tmp_path, processes, devices, layout, triggers):
    program = (HERE / "on_devices.py", tmp_path, layout, triggers)
    address = f"localhost:{free_port()}"
    meeting = [(address, processes, own) for own in range(processes)] if processes > 1 else [()]
    started = [start_on(devices, *program, *of_one) for of_one in meeting]
    expected, expected_params = on_devices.run(triggers=triggers)
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    found = json.loads((tmp_path / "found.json").read_text())
    expected = json.loads(json.dumps(expected))
    total, rows = processes * devices, expected.pop("rows of the table on a device")
    assert (found.pop("devices"), expected.pop("devices")) == (total, 1)
    assert found.pop("rows of the table on a device") == (-(-rows // total) if layout == "shard" else rows)
    assert found == expected
    assert expected["batch"] % on_devices.CONFIG.pretrain.batch_size % 8  # the last batch is ragged on every count
    with np.load(tmp_path / "params.npz") as arrays:
        assert len(arrays) == len(expected_params)
        for array, wanted in zip(arrays.values(), expected_params, strict=True):
            np.testing.assert_allclose(array, wanted, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_every_backbone_does_on_eight_devices_what_it_does_on_one(tmp_path):
    """With whole and with split tables of items, output items and output biases; dropout is on."""
    process = start_on(8, HERE / "backbones_on_devices.py", tmp_path)
    expected = backbones_on_devices.run()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == set(expected) and (found["devices"], expected["devices"]) == (8, 1)
        for name in set(expected) - {"devices"}:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5, err_msg=name)


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    program = """
import dataclasses, on_devices
on_devices.CONFIG = dataclasses.replace(on_devices.CONFIG, pretrain=dataclasses.replace(on_devices.CONFIG.pretrain, batch_size=6))
on_devices.run()
"""
    process = start_on(4, "-c", program)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "UserError" in errors and "--batch_size" in errors.splitlines()[-1]
