"""How flags are defined, checked and repeated, and the text of --help."""

import csv
import io
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

from absl import flags

from prec_backdoor.errors import UserError
from prec_backdoor.options import GROUPS, Option, check_value

LARGEST = 2**31 - 1  # of whole numbers without another maximum: sizes and counts are int32 on the devices
_NAMES = {int: "a whole number", float: "a number", str: "a text"}


def define(name: str, default: Any, group: str, help: str, kind: type | None = None, required: bool = False, **limits) -> None:
    """Defines a flag; see `define_option`."""
    define_option(name, default, Option(help, group, **limits), kind, required)


def define_option(name: str, default: Any, option: Option, kind: type | None = None, required: bool = False) -> None:
    """Defines a flag; `check_flags` checks its value.

    Args:
      default: a tuple makes a flag of several values, separated by commas.
      kind: bool, int, float or str; that of the default if not given, str for an empty tuple.
      required: the flag has to be given.
    """
    kind = kind or (str if default == () else type(default[0] if isinstance(default, tuple) else default))
    how = {"flag_values": flags.FLAGS, "module_name": option.group}
    if kind is bool:
        flags.DEFINE_boolean(name, default, option.help, **how)
    else:
        parser = _List(kind) if isinstance(default, tuple) else _Single(kind)
        flags.DEFINE(parser, name, default, option.help, **how)
    flags.FLAGS[name].option, flags.FLAGS[name].is_required = option, required


def check_flags() -> None:
    """Raises a UserError for a value outside its limits, for an empty text, and for a required flag that is not given."""
    for flag in _defined():
        if flag.is_required and flag.value is None:
            raise UserError(f"--{flag.name}: has to be given ({flag.option.help.rstrip('.')})")
        if flag.present and flag.value == "":
            raise UserError(f"--{flag.name}: is empty; give a value, or leave the flag out")
        check_value(flag.name, flag.value, flag.option)
        whole = flag.value if isinstance(flag.value, tuple) else (flag.value,)
        if flag.option.maximum is None and any(type(value) is int for value in whole):
            check_value(flag.name, flag.value, Option("", flag.option.group, maximum=LARGEST))


def is_given(name: str) -> bool:
    """Returns whether the flag is on the command line."""
    return bool(flags.FLAGS[name].present)


def repeat(names: Iterable[str]) -> list[str]:
    """Returns the arguments that give those of the flags that are on the command line the same values in another command."""
    given = (flags.FLAGS[name] for name in names if is_given(name))
    return [f"--{flag.name}={text(flag.value)}" for flag in given]


def text(value: Any) -> str:
    """Returns a value as it is written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, tuple):
        return str(value)
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(value)
    return line.getvalue()


def help_text(program: str, description: str) -> str:
    """Returns the description and the flags by group: first groups of the program's own, then those of all programs."""
    width = min(shutil.get_terminal_size().columns, 120)
    groups: dict[str, list[flags.Flag]] = {}
    for flag in _defined():
        groups.setdefault(flag.option.group, []).append(flag)
    parts = [f"usage: {program} [--flag=value ...]", description.strip()]
    for group in sorted(groups, key=lambda group: GROUPS.index(group) if group in GROUPS else -1):
        parts.append("\n".join((group, *(_line(flag, width) for flag in groups[group]))))
    return "\n\n".join(parts)


def _defined() -> list[flags.Flag]:
    """The flags defined here, in order of definition; absl has others."""
    by_group = flags.FLAGS.flags_by_module_dict().values()
    return [flag for group in by_group for flag in group if hasattr(flag, "option")]


def _line(flag: flags.Flag, width: int) -> str:
    option: Option = flag.option
    name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    meaning = option.help
    if isinstance(flag.parser, _List):
        meaning += " Several by commas."
    if option.choices:
        meaning += f" {{{'|'.join(map(str, option.choices))}}}"
    if flag.is_required:
        meaning += " [required]"
    elif flag.default is not None and flag.default is not False and flag.default != ():
        meaning += f" [{text(flag.default)}]"
    return textwrap.fill(meaning, width, initial_indent=f"  {name:<24} ", subsequent_indent=" " * 27, break_on_hyphens=False)


class _Single(flags.ArgumentParser):
    """Parses one value of a kind."""

    syntactic_help = ""

    def __init__(self, kind: type):
        super().__init__()
        self._kind = kind

    def parse(self, argument: Any) -> Any:
        try:
            return self._kind(argument)
        except ValueError:
            raise ValueError(f"not {_NAMES[self._kind]}") from None


class _List(_Single):
    """Parses values of a kind, separated by commas; one with a comma stands in double quotes, as in CSV."""

    def parse(self, argument: Any) -> tuple:
        if isinstance(argument, tuple):
            return argument
        try:
            (values,) = csv.reader([str(argument)], skipinitialspace=True, strict=True)
        except csv.Error:
            raise ValueError('not one line of values, separated by commas; one with a comma is written "so, in quotes"') from None
        values = [value.strip() for value in values if value.strip()]
        return tuple(super(_List, self).parse(value) for value in values)
