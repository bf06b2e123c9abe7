"""The notebooks run from top to bottom, show figures, and are kept without outputs."""

import os
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
FIGURES = {"quickstart": 1, "anatomy_of_an_attack": 7, "audit_a_checkpoint": 1}  # at least
SECONDS_PER_CELL = 600
notebooks = pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def kernel_environment(optimised) -> dict[str, str]:
    """Finds this checkout wherever it is installed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **optimised,
        "PYTHONPATH": os.pathsep.join(paths),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",  # the folder is in the environment already, see conftest.py
    }


def test_every_notebook_is_known():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(FIGURES)


@notebooks
def test_runs(path, kernel_environment, tmp_path):
    notebook = nbformat.read(path, as_version=4)
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


@notebooks
def test_starts_in_colab(path):
    first, setup = nbformat.read(path, as_version=4).cells[:2]
    assert f"colab.research.google.com/github/prec-backdoor/prec_backdoor/blob/main/notebooks/{path.name}" in first.source
    assert "%pip install -q git+https://github.com/prec-backdoor/prec_backdoor" in setup.source
    assert "jax.devices()" in setup.source
