"""Help, examples and limits of the flags of all programs."""

import importlib
import math
import shlex
import subprocess
import sys

import pytest
from absl import flags
from forks import ROOT
from inside import PROGRAMS, examples, required
from inside import parse as parse  # a fixture

from launch import app, cli, config_flags, data_flags, flag
from prec_backdoor.errors import UserError
from prec_backdoor.options import GROUPS

HUGE = str(10**30)
VALUES = ("0", "-1", "nan", "inf", "-inf", HUGE, "1e300", "1e400", "1.5", "x")


def numeric_flags():
    """(program, flag, kind) of every flag that takes numbers; a flag with the same limits in many programs is listed once."""
    found, seen = [], set()
    for program in PROGRAMS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(flags, "FLAGS", flags.FlagValues())
            importlib.import_module(f"launch.{program}").define_flags()
            app.define_common_flags()
            for name in flags.FLAGS:
                parser, option = flags.FLAGS[name].parser, getattr(flags.FLAGS[name], "option", None)
                kind = getattr(parser, "_kind", None)
                if kind in (int, float) and (name, type(parser), option) not in seen:
                    seen.add((name, type(parser), option))
                    found.append((program, name, kind))
    return found


NUMERIC = numeric_flags()
REQUIRED = {program: required(program) for program in PROGRAMS}


def test_all_numeric_flags_are_listed():
    assert {"l2", "seeds", "rate", "demote_rate", "epochs", "checkpoint_seconds", "p_value", "rounds", "num_processes"} <= {
        name for _, name, _ in NUMERIC
    }


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("1, 2,,3", ("1", "2", "3")),
        ('"a,b",c', ("a,b", "c")),
        ('say "hi",5" disc', ('say "hi"', '5" disc')),
        ('"a ""b"", c"', ('a "b", c',)),
        ("", ()),
    ],
)
def test_values_of_a_list_are_read_as_a_line_of_csv_and_repeated_so(parse, given, values):
    found = parse("recommend", "--checkpoint=a", f"--history={given}")["history"].value
    assert found == values
    assert parse("recommend", "--checkpoint=a", f"--history={flag.text(found)}")["history"].value == values


@pytest.mark.parametrize("given", ["1,2\n3", '"a,b', '"a,b"c'])
def test_a_list_of_two_lines_or_with_an_open_quote_is_refused(parse, given):
    with pytest.raises((UserError, flags.Error), match="not one line of values"):
        parse("recommend", "--checkpoint=a", f"--history={given}")


@pytest.mark.parametrize(("program", "name", "kind"), NUMERIC)
def test_every_number_is_within_its_limits_or_refused_in_one_line(parse, program, name, kind):
    needed = [argument for argument in REQUIRED[program] if not argument.startswith(f"--{name}=")]
    for value in VALUES:
        try:
            found = parse(program, *needed, f"--{name}={value}")[name].value
        except UserError as error:
            assert str(error).startswith(f"--{name}: must be ") and str(error).count("\n") == 0
            number = kind(value)
            assert str(error).endswith(f", got {number:g}" if kind is float else f", got {number}")
            continue
        except flags.IllegalFlagValueError as error:
            assert str(error) == f"flag --{name}={value}: not {'a whole number' if kind is int else 'a number'}"
            assert value == "x" or kind is int and value not in ("0", "-1", HUGE)
            continue
        option = flags.FLAGS[name].option
        for each in found if isinstance(found, tuple) else (found,):
            assert math.isfinite(each) and each == kind(value) and (kind is float or each < 2**32)
            assert option.minimum is None or each >= option.minimum
            assert option.above is None or each > option.above
            assert option.maximum is None or each <= option.maximum


def test_messages_by_hand(parse):
    for program, argument, message in (
        ("experiment", "--l2=-1", "--l2: must be >= 0, got -1"),
        ("experiment", "--learning_rate=0", "--learning_rate: must be > 0, got 0"),
        ("experiment", "--rate=0.1,nan", "--rate: must be a finite number >= 0 and <= 1, got nan"),
        ("experiment", "--seeds=4294967296", "--seeds: must be >= 0 and <= 4294967295, got 4294967296"),
        ("experiment", "--embed_dim=2147483648", "--embed_dim: must be <= 2147483647, got 2147483648"),
        ("experiment", "--dropout=1", "--dropout: must be >= 0 and < 1, got 1"),
        ("experiment", "--checkpoint_seconds=inf", "--checkpoint_seconds: must be a finite number >= 0, got inf"),
        ("experiment", "--num_processes=0", "--num_processes: must be >= 1, got 0"),
    ):
        with pytest.raises(UserError) as error:
            parse(program, argument)
        assert str(error.value) == message
    assert parse("experiment", "--seeds=4294967295,0")["seeds"].value == (4294967295, 0)
    with pytest.raises(UserError, match="--workdir: has to be given"):
        parse("pretrain")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help(program, monkeypatch, capsys):
    module = importlib.import_module(f"launch.{program}")
    for arguments in (["--help"], ["--workdir=x", "-h"]):
        monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
        monkeypatch.setattr("sys.argv", [program, *arguments])
        with pytest.raises(SystemExit) as ended:
            app.run(module.main, module.define_flags, module)
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: python -m launch.{program} ")
    assert len(examples(program)) >= 3
    groups = [line for line in text.split("Examples:")[1].splitlines()[4:] if line and not line.startswith(" ")]
    known = [group for group in groups if group in GROUPS]
    assert known == [group for group in GROUPS if group in known] and {"output", "devices"} <= set(known)
    for name in flags.FLAGS:
        if hasattr(flags.FLAGS[name], "option"):
            assert len(flags.FLAGS[name].option.help) > 10, name
            assert f"--{name}" in text or f"--[no]{name}" in text
    assert max(map(len, text.splitlines())) <= 150


@pytest.mark.parametrize("program", PROGRAMS)
def test_examples_parse(parse, program):
    for called, *arguments in examples(program):
        assert called == program
        parsed = parse(program, *arguments)
        for argument in arguments:
            name = argument.removeprefix("--").partition("=")[0]
            assert parsed[name].present
        if program == "experiment":
            assert config_flags.configs_from_flags()
        if program in ("pretrain", "reproduce"):
            assert config_flags.config_from_flags(**(config_flags.single_rate() if program == "pretrain" else {}))


@pytest.mark.parametrize("program", ["experiment", "pretrain"])
def test_help_of_a_real_process(program, environment):
    from forks import run_program

    status, out, err = run_program((program, "--help"), environment)
    assert (status, err) == (0, "") and "Examples:" in out


def test_given_flags_are_repeated_as_they_can_be_given_again(parse):
    arguments = ["--dataset=cikm", "--behaviours=pv,fav", "--data_dir=my folder/$x", "--synthetic_seed=0", "--on_bad_rows=skip"]
    parse("audit", *arguments, "--shard_items", "--checkpoint=c", "--workdir=w")
    repeated = flag.repeat((*data_flags.NAMES, "shard_items"))
    assert sorted(repeated) == sorted([*arguments, "--shard_items=true"])
    parse("repair", *shlex.split(shlex.join(repeated)), "--checkpoint=c", "--audit=a", "--workdir=w")
    assert sorted(flag.repeat((*data_flags.NAMES, "shard_items"))) == sorted(repeated)


def test_every_program_is_in_the_console_command():
    folder = cli.Path(cli.__file__).parent
    assert set(PROGRAMS) | {"cli"} == {path.stem for path in folder.glob("*.py") if "__main__" in path.read_text()} - {"app"}


@pytest.mark.parametrize("command", ["cli", "cli experiment --help", "experiment --help"])
def test_a_reader_may_leave_before_the_end(command):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    program = subprocess.Popen((sys.executable, "-m", *f"launch.{command}".split()), cwd=ROOT, **streams)
    program.stdout.close()
    assert (program.stderr.read(), program.wait()) == (b"", 141)


def test_the_console_command_lists_and_refuses(monkeypatch, capsys):
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        monkeypatch.setattr("sys.argv", ["prec-backdoor", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        lines = capsys.readouterr().out.splitlines()
        listed = [line.split()[0] for line in lines if line.startswith("  ")]
        assert listed == list(PROGRAMS) and max(map(len, lines)) <= 130
    monkeypatch.setattr("sys.argv", ["prec-backdoor", "experimnt"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == ""
    assert err.startswith("error: no program 'experimnt'; choose one of experiment, ") and err.count("\n") == 1
