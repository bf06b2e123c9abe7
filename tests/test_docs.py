"""What the documents say is true: links and paths exist, commands have programs and flags, Python runs as written."""

import ast
import importlib
import re
import shlex
import sys
from pathlib import Path
from unittest.mock import create_autospec, patch

import absl.app
import nbformat
import pytest
from absl import flags

from launch import app, config_flags, flag
from prec_backdoor.attacks import ATTACKS
from prec_backdoor.audit.registry import AUDITS
from prec_backdoor.data import DATASETS, load_dataset
from prec_backdoor.data.registry import DEFAULT_GROUPS
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.models import BACKBONES
from prec_backdoor.repairs.registry import REPAIRS
from prec_backdoor.train import replay
from prec_backdoor.train.losses import LOSSES, SAMPLED
from prec_backdoor.train.model_state import open_model

ROOT = Path(__file__).parents[1]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOURCES = [path for folder in ("launch", "examples") for path in sorted((ROOT / folder).glob("*.py"))]
PROGRAMS = {path.stem for path in (ROOT / "launch").glob("*.py") if "app.run(main, define_flags)" in path.read_text()}
LINES_OF_README = 150

VALUE = r"""(?:'[^']*'|"[^"]*"|[^\s'"`;&|)])+"""
COMMAND = re.compile(rf"(?:launch\.|prec-backdoor )(\w+)((?:\s+(?:\\\n\s*)?--\w+(?:={VALUE})?)*)")
every_page = pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)


def text_of(path):
    """A page, all cells of a notebook, or the docstring of a module."""
    if path.suffix == ".ipynb":
        return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    text = path.read_text()
    return ast.get_docstring(ast.parse(text)) or "" if path.suffix == ".py" else text


def commands(path):
    """(program, flags) of each command with flags, in the order of the text."""
    found = COMMAND.finditer(text_of(path))
    return [(match[1], shlex.split(match[2].replace("\\\n", " "))) for match in found if match[2].strip()]


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.S | re.M)


def anchors(path):
    """Of all headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Links and paths


@every_page
def test_relative_links_exist(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        linked = path.parent / name if name else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@every_page
def test_paths_in_the_text_exist(path):
    for name in re.findall(r"\b((?:prec_backdoor|launch|tests|examples|docs|notebooks)/[\w/.]*\w\.\w+)\b", text_of(path)):
        assert (ROOT / name).exists(), name
    for module in re.findall(r"python -m (tests\.[\w.]+)", text_of(path)):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), module


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= LINES_OF_README


def test_every_folder_of_the_package_is_installed():
    folders = {path.parent for path in (ROOT / "prec_backdoor").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


# Commands


@pytest.fixture
def parse(monkeypatch):
    """parse(program, arguments) defines, parses and checks the flags in this process, as the program would."""
    monkeypatch.chdir(ROOT)
    registries = (ATTACKS, AUDITS, BACKBONES, DATASETS, DEFAULT_GROUPS, LOSSES, REPAIRS)

    def parse(program, arguments):
        module = importlib.import_module(f"launch.{program}")
        with monkeypatch.context() as patched:
            patched.setattr(flags, "FLAGS", flags.FlagValues())
            patched.setattr(sys, "argv", [program, *arguments])
            patched.setattr(absl.app, "run", lambda main, flags_parser: flags_parser(sys.argv))
            app.run(lambda: None, module.define_flags)
            flag.check_flags()
            return config_of(program)

    patches = [patch.dict(registry) for registry in registries]  # a plugin's names are forgotten at the end
    sampled = list(SAMPLED)
    for each in patches:
        each.start()
    yield parse
    for each in patches:
        each.stop()
    SAMPLED[:] = sampled


def config_of(program):
    """(dataset, configuration) of a program that makes one from its flags, else None."""
    if program == "experiment":
        return flags.FLAGS.dataset, config_flags.configs_from_flags()[0]
    if program == "reproduce":
        return flags.FLAGS.dataset, config_flags.config_from_flags()
    if program == "pretrain":
        return flags.FLAGS.dataset, config_flags.config_from_flags(seeds=(flags.FLAGS.seed,), **config_flags.single_rate())
    return None


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS, *SOURCES], ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_have_a_program_and_valid_flags(path, parse, capsys):
    for program, arguments in commands(path):
        assert program in PROGRAMS, program
        arguments = [re.sub(r"\$\w+", "0", argument) for argument in arguments]
        if "--help" in arguments:
            continue
        try:
            parse(program, arguments)
        except (SystemExit, UserError) as error:
            pytest.fail(f"{program} {shlex.join(arguments)}: {error} {capsys.readouterr().err}")


def test_commands_are_found():
    found = {path.name: len(commands(path)) for path in (*PAGES, *NOTEBOOKS, *SOURCES)}
    assert found["README.md"] >= 8 and found["devices.md"] >= 4 and found["experiment.py"] == 3 and found["quickstart.ipynb"] >= 1
    assert ("two", ["--a=b c", "--d"]) in [(m[1], shlex.split(m[2])) for m in COMMAND.finditer("launch.two --a='b c' --d; more")]


def test_groups_and_targets_exist_in_the_dataset(parse):
    """Every --group and --targets that is written down, on MovieLens-100K and on the small synthetic data."""
    wanted = {}
    for path in (*PAGES, *NOTEBOOKS, *SOURCES):
        for program, arguments in commands(path):
            given = set(arguments) & {"--help", "--quick"} or "$" in str(arguments)
            dataset, config = (None, None) if given else parse(program, arguments) or (None, None)
            if dataset in ("ml-100k", "synthetic") and "aliec" not in str(arguments):
                scenario = config.scenario
                wanted.setdefault((dataset, scenario.scope, scenario.group, scenario.targets, config.model.max_length), config)
    assert any(scenario.targets.startswith("ids:") for scenario in (config.scenario for config in wanted.values()))
    try:
        data = {name: load_dataset(name) for name in ("ml-100k", "synthetic")}
    except UserError as error:
        pytest.skip(str(error))
    for (name, *_), config in wanted.items():
        make_setup(data[name], config, config.seeds[0])


# Python


def get_data(path):
    """What a page's Python reads, into the cache, where the page's own call finds it."""
    if 'load_dataset("ml-100k")' in path.read_text():
        try:
            load_dataset("ml-100k")
        except UserError as error:
            pytest.skip(str(error))


def run_python(path):
    """The names that its blocks define, one after the other."""
    names = {}
    with patch.dict(BACKBONES):  # what a page registers is forgotten
        for block in blocks(path, "python"):
            exec(compile(block, path.name, "exec"), names)
    return names


@pytest.mark.parametrize("path", [page for page in PAGES if blocks(page, "python")], ids=lambda path: path.name)
def test_python_runs_as_written(path, tmp_path, monkeypatch, capsys):
    """A replay only opens its run: its hundreds of operations, compiled one by one, are tested in train/test_loop.py."""
    monkeypatch.chdir(tmp_path)
    opens = create_autospec(replay.replay, side_effect=lambda run, epoch, step: open_model(run))
    monkeypatch.setattr(replay, "replay", opens)
    get_data(path)
    capsys.readouterr()  # a download prints the licence
    names = run_python(path)
    if path.name == "README.md":
        assert names["checkpoint"].metadata["finished"] and (tmp_path / "runs" / "api" / "checkpoints").is_dir()
        assert names["target_ranks"].shape == (len(names["setup"].test.users), 10)
        assert capsys.readouterr().out.startswith("pretrain ")
    assert opens.called == (path.name == "reliability.md")


@pytest.mark.slow
def test_a_replay_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(ROOT / "docs" / "reliability.md")
