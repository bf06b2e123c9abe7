"""The order of the rooms, read from the imports, and the size of what is in them (CONTRIBUTING)."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up: a room imports those before it alone.
ROOMS = ("errors", "options", "parallel", "data", "attacks", "models", "storage", "interop", "evaluation", "train", "experiment")
ROOMS += ("reporting", "audit", "repairs", "leaderboard", "zoo", "extend", "benchmark", "launch")
KEPT_APART = {("attacks", "models"), ("models", "data")}  # though the order would allow the one or the other
MAX_FUNCTION_LINES, MAX_POSITIONAL, MAX_FILE_LINES = 60, 6, 250
LONGER = {}  # "path" or "path:function" -> why it is longer, or has more parameters, than the house allows


@functools.cache
def sources():
    """Path from the root -> syntax tree of everything that is installed."""
    paths = sorted(path for folder in ("prec_backdoor", "launch") for path in (ROOT / folder).rglob("*.py"))
    assert len(paths) > 100
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in (*paths, ROOT / "setup.py")}


def module_of(path):
    """prec_backdoor/train/step.py -> prec_backdoor.train.step; launch/ is installed as prec_backdoor.launch."""
    name = ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")
    return f"prec_backdoor.{name}" if name.partition(".")[0] == "launch" else name


def imports():
    """(module, module that it imports) for all modules of ours, wherever in the module the import stands."""
    paths = {module_of(path): path for path in sources() if path != "setup.py"}
    for module, path in paths.items():
        package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
        for node in ast.walk(sources()[path]):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package.rsplit(".", node.level - 1)[0] if node.level else ""
                base = ".".join(part for part in (above, node.module) if part)
                names = [f"{base}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                name = f"prec_backdoor.{name}" if name.partition(".")[0] == "launch" else name
                while name and name not in paths:  # what is imported from a module is no module
                    name = name.rpartition(".")[0]
                if name:
                    yield module, name


def room(module):
    return module.split(".")[1] if "." in module else "prec_backdoor"


def test_every_arrow_points_down():
    upward = []
    for module, imported in imports():
        here, there = room(module), room(imported)
        if "prec_backdoor" in (here, there):
            assert here == "prec_backdoor" or imported == "prec_backdoor", (module, imported)
            continue
        if here != there and (ROOMS.index(there) > ROOMS.index(here) or (here, there) in KEPT_APART):
            upward.append(f"{module} imports {imported}")
    assert not upward
    assert len(set(imports())) > 300


def test_the_package_itself_imports_nothing():
    assert not [imported for module, imported in imports() if module == "prec_backdoor"]


def test_no_module_imports_itself_by_way_of_others():
    graph = {}
    for module, imported in imports():
        if module != imported:
            graph.setdefault(module, set()).add(imported)
    graphlib.TopologicalSorter(graph).prepare()  # raises a CycleError with the modules in it


def test_only_one_file_says_pmap():
    said = {path for path in sources() if path != "setup.py" and "pmap(" in (ROOT / path).read_text()}
    assert said == {"prec_backdoor/parallel/mesh.py"}


def functions():
    """("path:function", node) of all functions and methods, those within functions too."""
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}:{node.name}", node


def too_large(name, node):
    positional = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args) if argument.arg not in ("self", "cls")]
    lines = node.end_lineno - node.lineno + 1
    return lines > MAX_FUNCTION_LINES or len(positional) > MAX_POSITIONAL


def test_functions_and_files_can_be_read_at_once():
    found = {name for name, node in functions() if too_large(name, node)}
    found |= {path for path in sources() if len((ROOT / path).read_text().splitlines()) > MAX_FILE_LINES}
    assert found == set(LONGER)
    assert all(LONGER.values())


def test_test_files_have_names_of_their_own():
    """pytest imports them by name alone."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not [name for name in set(names) if names.count(name) > 1]


ENGINE = ("step", "epoch", "loop", "loader", "model_state")


@pytest.mark.parametrize("config", ["experiment", "train", "audit", "leaderboard"])
def test_configuration_imports_no_engine(config):
    program = f"import sys, prec_backdoor.{config}.config; print(*sys.modules)"
    loaded = set(
        subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    )
    assert f"prec_backdoor.{config}.config" in loaded
    assert not loaded & {f"prec_backdoor.train.{name}" for name in ENGINE}
    assert not loaded & {"orbax", "orbax.checkpoint", "tensorstore"}
