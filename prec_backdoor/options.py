"""Fields of configurations: default, meaning and limits in one place. Checks and command-line flags are made from them."""

import dataclasses
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from prec_backdoor.errors import UserError

GROUPS = ("data", "attack", "model", "training", "output", "devices")  # headings of --help, in this order
_LIMITS = {  # limit -> how it reads, and whether a value keeps it
    "minimum": (">=", lambda value, limit: value >= limit),
    "above": (">", lambda value, limit: value > limit),
    "maximum": ("<=", lambda value, limit: value <= limit),
    "below": ("<", lambda value, limit: value < limit),
}


class Option(NamedTuple):
    """What is allowed for a field and what it means; `choices` may be a registry that grows.

    Attributes:
      measured: an attack's parameter that clean models are measured with too, for comparison.
      quiet: an attack's parameter that is named in results if it is not at its default.
    """

    help: str
    group: str
    choices: Collection[str] | None = None
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    measured: bool = False
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class NoParameters:
    """For an attack or a backbone without parameters of its own."""


def option(default: Any, group: str, help: str, **limits) -> Any:
    """A dataclass field with an `Option` of these arguments."""
    return dataclasses.field(default=default, metadata={"option": Option(help, group, **limits)})


def options(config: Any) -> dict[str, tuple[Any, Option]]:
    """Name -> (default, option) of the fields of a dataclass that have one."""
    return {field.name: (field.default, field.metadata["option"]) for field in dataclasses.fields(config) if field.metadata}


def check_options(config: Any) -> None:
    """Checks all options of a dataclass instance; every value of a tuple must be within the limits.

    Raises:
      UserError: a value is outside the limits, not finite, or none of the choices; the line names the flag.
    """
    for name, (_, allowed) in options(config).items():
        check_value(name, getattr(config, name), allowed)


def check_value(name: str, value: Any, allowed: Option) -> None:
    """Checks one value, or all values of a tuple; None stands for "not given".

    Raises:
      UserError: see `check_options`.
    """
    for each in value if isinstance(value, tuple) else (value,):
        if fault := next(_faults(each, allowed), None):
            raise UserError(f"--{name}: {fault}")


def _faults(value: Any, allowed: Option) -> Iterator[str]:
    if value is None:
        return
    if allowed.choices is not None and value not in allowed.choices:
        yield f"must be one of {', '.join(allowed.choices)}, got {value!r}"
    bounds = {name: limit for name in _LIMITS if (limit := getattr(allowed, name)) is not None}
    finite = not isinstance(value, float) or math.isfinite(value)
    if not finite or any(not _LIMITS[name][1](value, limit) for name, limit in bounds.items()):
        limits = " and ".join(f"{_LIMITS[name][0]} {_shown(limit)}" for name, limit in bounds.items())
        text = limits if finite else f"a finite number {limits}".strip()
        yield f"must be {text}, got {_shown(value)}"


def _shown(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def probability(default: float, group: str, help: str) -> Any:
    """A field for a number from 0 to 1."""
    return option(default, group, help, minimum=0.0, maximum=1.0)


def add_entry(registry: dict, kind: str, name: Any, entry: Any) -> None:
    """Adds an entry under a free name to a registry, whose keys are choices of an option.

    Raises:
      ValueError: the name is taken, or cannot be written on a command line and in the name of a folder.
    """
    word = name[0] if isinstance(name, tuple) else name
    if not re.fullmatch(r"\w[\w-]*", word):
        raise ValueError(f"the name of {_a(kind)} must be made of letters, digits, _ and -, got {word!r}")
    if name in registry:
        raise ValueError(f"the {kind} {name} is registered already")
    registry[name] = entry


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def defaults(config: type) -> Mapping[str, Any]:
    """Name -> default of a dataclass's options."""
    return {name: default for name, (default, _) in options(config).items()}
