"""How flags are defined and checked, and the help that is made from them."""

import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

from absl import flags

from prec_backdoor.options import GROUPS, Option, check_value


def define(name: str, default: Any, group: str, help: str, kind: type | None = None, required: bool = False, **limits) -> None:
    """Defines a flag; see `define_option`."""
    define_option(name, default, Option(help, group, **limits), kind, required)


def define_option(name: str, default: Any, option: Option, kind: type | None = None, required: bool = False) -> None:
    """Defines a flag whose value is checked after parsing.

    Args:
      kind: bool, int, float or str; the default's by default. A tuple as default is a list flag of values of its kind.
    """
    kind = kind or type(default[0] if isinstance(default, tuple) else default)
    how = {"flag_values": flags.FLAGS, "module_name": option.group, "required": required}
    if kind is bool:
        flags.DEFINE_boolean(name, default, option.help, **how)
    else:
        parser = _List(kind) if isinstance(default, tuple) else _Single(kind)
        flags.DEFINE(parser, name, default, option.help, serializer=flags.ArgumentSerializer(), **how)
    flags.FLAGS[name].option = option


def check_flags() -> None:
    """Raises a UserError for a value outside its limits."""
    for name in flags.FLAGS:
        if option := getattr(flags.FLAGS[name], "option", None):
            check_value(name, flags.FLAGS[name].value, option)


def is_given(name: str) -> bool:
    """Whether the flag stands on the command line."""
    return bool(flags.FLAGS[name].present)


def help_text(program: str, description: str) -> str:
    """The description, then all flags of ours by group."""
    width = min(shutil.get_terminal_size().columns, 120)
    parts = [f"usage: {program} [--flag=value ...]", description.strip()]
    defined = flags.FLAGS.flags_by_module_dict()
    parts += ["\n".join((group, *_lines(defined[group], width))) for group in GROUPS if group in defined]
    return "\n\n".join(parts)


def _lines(of_group: Iterable[flags.Flag], width: int) -> Iterable[str]:
    for flag in of_group:
        option: Option = flag.option
        name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
        choices = f" {{{'|'.join(map(str, option.choices))}}}" if option.choices else ""
        default = ",".join(map(str, flag.value)) if isinstance(flag.value, tuple) else flag.value
        shown = "" if default in (None, "") or flag.boolean and not default else f" [{default}]"
        text = f"{option.help}{choices}{shown}"
        wrapped = textwrap.wrap(text, width, initial_indent=f"  {name:<24} ", subsequent_indent=" " * 27, break_on_hyphens=False)
        yield "\n".join(wrapped)


class _Single(flags.ArgumentParser):
    """One value of a kind."""

    def __init__(self, kind: type):
        super().__init__()
        self._kind, self.syntactic_help = kind, ""

    def parse(self, argument: Any) -> Any:
        try:
            return self._kind(argument)
        except ValueError:
            raise ValueError(f"not {_NAMES[self._kind]}") from None


class _List(_Single):
    """Values of a kind, separated by commas."""

    def parse(self, argument: Any) -> tuple:
        if isinstance(argument, tuple):
            return argument
        values = [value.strip() for value in str(argument).split(",") if value.strip()]
        return tuple(super(_List, self).parse(value) for value in values)


_NAMES = {int: "a whole number", float: "a number", str: "a text"}
