"""The opcodes that a torch file's pickle may have: name -> step(machine, argument); see `pickle_machine.Machine`."""

from collections.abc import Callable
from typing import Any

from prec_backdoor.interop.placeholder import Placeholder

MAX_DIGITS_BYTES = 64  # of an integer


class _Mark:
    """Where a group of values begins on the stack."""


MARK = _Mark()


def _push(machine, value):
    machine.push(value)


def _integer(machine, value):
    if value.bit_length() > 8 * MAX_DIGITS_BYTES:
        raise ValueError("an integer of too many digits")
    machine.push(value)


def _pop(machine, _):
    machine.stack.pop()


def _setitem(machine, _):
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _dict(machine, _):
    flat = machine.pop_group()
    machine.push_container({})
    machine.set_items(flat)


def _reduce(machine, _):
    arguments, function = machine.pop(), machine.pop()
    machine.reduce(function, arguments)


def _newobj_ex(machine, _):
    named, arguments, function = machine.pop(), machine.pop(), machine.pop()
    machine.reduce(function, (arguments, named))


def _build(machine, _):
    state, value = machine.pop(), machine.pop()
    built = machine.build(value, state)
    if built is not value:
        value.replaced = built  # in the memo, too
    machine.push(built)


def _stack_global(machine, _):
    name, module = machine.pop(), machine.pop()
    machine.global_(module, name)


def _tuple_of(size):
    def step(machine, _):
        values = tuple(machine.pop() for _ in range(size))[::-1]
        machine.push_container(values)

    return step


def _pushes(make):
    return lambda machine, argument: machine.push(make(argument))


STEPS: dict[str, Callable[[Any, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(
        (
            "BINUNICODE",
            "SHORT_BINUNICODE",
            "BINUNICODE8",
            "BINSTRING",
            "SHORT_BINSTRING",
            "BINBYTES",
            "SHORT_BINBYTES",
            "BINBYTES8",
        ),
        _push,
    ),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "BINFLOAT"), _push),
    **dict.fromkeys(("LONG1", "LONG4"), _integer),
    "BYTEARRAY8": _pushes(bytes),
    "NONE": _pushes(lambda _: None),
    "NEWTRUE": _pushes(lambda _: True),
    "NEWFALSE": _pushes(lambda _: False),
    "MARK": _pushes(lambda _: MARK),
    "POP": _pop,
    "POP_MARK": lambda machine, _: machine.pop_group(),
    "EMPTY_LIST": lambda machine, _: machine.push_container([]),
    "EMPTY_DICT": lambda machine, _: machine.push_container({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_SET": lambda machine, _: machine.push_container(Placeholder("builtins.set", ())),
    "FROZENSET": lambda machine, _: machine.push_container(Placeholder("builtins.frozenset", tuple(machine.pop_group()))),
    "LIST": lambda machine, _: machine.push_container(machine.pop_group()),
    "TUPLE": lambda machine, _: machine.push_container(tuple(machine.pop_group())),
    "DICT": _dict,
    **{f"TUPLE{size}": _tuple_of(size) for size in (1, 2, 3)},
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda machine, _: machine.extend(machine.pop_group())),
    "SETITEM": _setitem,
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_group()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda machine, index: machine.memoize(index)),
    "MEMOIZE": lambda machine, _: machine.memoize(len(machine.memo)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, index: machine.recall(index)),
    "GLOBAL": lambda machine, name: machine.global_(*name.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _reduce),
    "NEWOBJ_EX": _newobj_ex,
    "BUILD": _build,
    "BINPERSID": lambda machine, _: machine.push(machine.storage(machine.pop())),
}
