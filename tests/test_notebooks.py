"""The notebooks run from top to bottom, with little training, show figures, and are kept without outputs."""

import ast
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
FIGURES = {"quickstart": 1, "anatomy_of_an_attack": 7, "audit_a_checkpoint": 1}  # at least
EPOCHS_GIVEN = {"quickstart": 2, "anatomy_of_an_attack": 4, "audit_a_checkpoint": 1}
SECONDS_PER_CELL = 600
EPOCHS = re.compile(r"(epochs)=\d+")  # of a configuration; what little training gives is drawn by the same code
SHORTER = {
    "audit_a_checkpoint": "from prec_backdoor.audit import calibration, inversion\ncalibration.STEPS, inversion.STEPS = 60, 3"
}
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONG = ("anatomy_of_an_attack", "audit_a_checkpoint")  # to run; quickstart runs by default
RUN = [pytest.param(path, marks=pytest.mark.slow if path.stem in LONG else ()) for path in PATHS]
notebooks = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shorten(notebook, name):
    """One epoch for each number of epochs, and what SHORTER has; returns how many numbers there are."""
    found = 0
    for cell in code_cells(notebook):
        cell.source, replaced = EPOCHS.subn(r"\1=1", cell.source)
        found += replaced
    code_cells(notebook)[0].source += "\n" + SHORTER.get(name, "")
    return found


@pytest.fixture
def kernel_environment() -> dict[str, str]:
    """Finds this checkout wherever it is installed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",  # the folder is in the environment already, see conftest.py
    }


def test_every_notebook_is_known():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(FIGURES)


@pytest.mark.parametrize("path", RUN, ids=[path.stem for path in PATHS])
def test_runs(path, kernel_environment, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    assert shorten(notebook, path.stem) == EPOCHS_GIVEN[path.stem]
    # Without folders to look in, the one kernel is that of the running interpreter.
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(notebook, km=kernel, timeout=SECONDS_PER_CELL, resources={"metadata": {"path": str(tmp_path)}})
    try:
        client.execute(env=kernel_environment)
    except CellExecutionError as error:
        if error.ename == "UserError" and "no download" in error.evalue:
            pytest.skip(error.evalue)
        raise
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) >= FIGURES[path.stem]
    assert all(len(figure.data["image/png"]) > 10_000 for figure in figures)  # base64 of a drawing, not of a blank


@notebooks
def test_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.metadata.kernelspec.name) == (4, "python3")
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None
    assert not any(cell.metadata for cell in notebook.cells)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


# What Colab's Python has of the packages that we import (googlecolab/backend-info, pip-freeze.gpu.txt of June 2026).
OF_COLAB = {
    "IPython",
    "absl",
    "flax",
    "jax",
    "jinja2",
    "markupsafe",
    "matplotlib",
    "numpy",
    "optax",
    "orbax",
    "polars",
    "scipy",
    "tabulate",
    "ml_dtypes",
    "safetensors",
}
OF_COLAB |= {"ml_dtypes", "safetensors", "tensorstore", "torch", "tqdm"}
INSTALLED = "tensorboardX"
OPTIONAL = {"recbole", "yaml"}  # of launch.benchmark, in processes of their own


@notebooks
def test_starts_in_colab_without_replacing_its_jax(path):
    notebook = nbformat.read(path, as_version=4)
    first, setup = notebook.cells[:2]
    assert "docs/devices.md#colab" in first.source
    installs = [line.strip() for line in setup.source.splitlines() if "%pip" in line]
    assert installs == ["%pip install -q --no-deps ./prec_backdoor", f"%pip install -q {INSTALLED}"]
    assert "jax.devices()" in setup.source
    addresses = [address for cell in notebook.cells for address in re.findall(r"https?://[^)\s]+", cell.source)]
    assert all(address.startswith("https://doi.org/") for address in addresses)  # no other address exists


def test_colab_has_what_we_import():
    files = [path for folder in ("prec_backdoor", "launch") for path in (ROOT / folder).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    ours = {*sys.stdlib_module_names, "prec_backdoor", "launch"}
    assert {name.partition(".")[0] for name in names} - ours <= OF_COLAB | {INSTALLED} | OPTIONAL
