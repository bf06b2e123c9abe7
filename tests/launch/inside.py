"""The programs' flags in this process, without running the programs."""

import importlib
import shlex

import pytest
from absl import flags

from launch import app, cli, flag

PROGRAMS = cli.PROGRAMS


@pytest.fixture
def parse(monkeypatch):
    """parse(program, *arguments) -> the flags, parsed and checked as the program does it, with none of another program."""

    def parse(program, *arguments):
        monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
        module = importlib.import_module(f"launch.{program}")
        module.define_flags()
        app.define_common_flags()
        rest = flags.FLAGS([program, *map(str, arguments)])
        assert rest == [program]
        flag.check_flags()
        return flags.FLAGS

    return parse


def examples(program):
    """The example commands in a program's description, each as (program, *arguments)."""
    description = importlib.import_module(f"launch.{program}").__doc__
    lines = (line.strip() for line in description.partition("Examples:\n")[2].splitlines())
    return [tuple(shlex.split(line.removeprefix("python -m launch."))) for line in lines if line]


def required(program):
    """Arguments that give each required flag of a program some value."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "FLAGS", flags.FlagValues())
        importlib.import_module(f"launch.{program}").define_flags()
        return [f"--{name}=x" for name in flags.FLAGS if getattr(flags.FLAGS[name], "is_required", False)]
