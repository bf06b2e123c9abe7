"""Evaluates a pickle without running it: an explicit stack machine over an allow-list of opcodes.

Nothing is imported and nothing is called. Classes and functions that the file names are inert `Placeholder`s; what a call of one
stands for is up to the `call` that the reader gives. Every other library unpickles by running code that the file chooses.
"""

import pickletools
from collections.abc import Callable, Iterable
from typing import Any

from prec_backdoor.errors import UserError

MAX_BYTES = 1 << 25  # of one pickle: a million item ids have 20 bytes each
MAX_OPCODES = 2_500_000
MAX_CONTAINERS = 250_000  # lists, dicts, tuples and placeholders; a tensor has 4
MAX_STACK = 1 << 20
MAX_DEPTH = 64
MAX_VALUES = 10 * MAX_OPCODES  # counted wherever a container is shared
_NESTED = f"a container that holds itself, or containers nested deeper than {MAX_DEPTH}"
MAX_ODD_KEYS = 2_000  # dict keys other than strings and small integers, whose hashes a file can choose to be equal
MAX_DIGITS_BYTES = 64  # of an integer
# What a harmless checkpoint has no use for. Read as a placeholder it does no harm here, but such a file is made to do some.
FORBIDDEN_MODULES = frozenset(
    "os posix nt subprocess sys shutil socket runpy pty importlib ctypes code codeop pickle _pickle cloudpickle dill marshal "
    "webbrowser pip commands pydoc timeit profile cProfile bdb pdb asyncio multiprocessing imp zipimport".split()
)
FORBIDDEN_BUILTINS = frozenset(
    "eval exec compile open __import__ input breakpoint execfile apply setattr delattr globals locals vars".split()
)


class Placeholder:
    """A class, a function, or what calling one would have given; never imported, never called.

    Attributes:
      name: "module.qualified_name" of the class or function.
      args: arguments of the call, None for the class or function itself.
      state: what the object would have got as its attributes, usually a dict; None without.
      items: entries that the file adds to it as to a list or a dict.
    """

    __slots__ = ("name", "args", "state", "items")

    def __init__(self, name: str, args: tuple | None = None):
        self.name, self.args, self.state, self.items = name, args, None, []

    def __repr__(self) -> str:
        return f"<{self.name}, not loaded>"


class _Mark:
    """Where a group of values begins on the stack."""


MARK = _Mark()


class Machine:
    """One evaluation.

    Args:
      call: (placeholder of a function, arguments) -> value; returns Placeholder(name, arguments) for a function unknown to it.
      build: (value, state) -> value, for a value whose state is given after it.
      storage: persistent id -> value.
    """

    def __init__(self, call: Callable, build: Callable, storage: Callable):
        self.call, self.build, self.storage = call, build, storage
        self.stack: list = []
        self.memo: list = []
        self.containers = self.odd_keys = 0

    def run(self, pickled: bytes) -> Any:
        """Returns the value of a pickle: dicts, lists, tuples, str, bytes, int, float, bool, None, what `call` made, Placeholders.

        Raises:
          UserError: the pickle is damaged, too large, refers to itself, or has an opcode or a function that no checkpoint needs.
        """
        if len(pickled) > MAX_BYTES:
            raise UserError(f"a pickle of {len(pickled)} bytes; no checkpoint of a recommender needs more than {MAX_BYTES}")
        try:
            self._evaluate(pickled)
        except UserError:
            raise
        except (ValueError, IndexError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise UserError(f"damaged pickle ({' '.join(str(error).split())[:80] or type(error).__name__})") from error
        if len(self.stack) != 1 or self.stack[0] is MARK:
            raise UserError("damaged pickle (it ends with no value, or several)")
        check_nesting(self.stack[0])
        return self.stack[0]

    def _evaluate(self, pickled: bytes) -> None:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
            step = _STEPS.get(opcode.name)
            if step is None:
                raise UserError(f"pickle opcode {opcode.name}, which no torch file needs")
            if number > MAX_OPCODES or len(self.stack) > MAX_STACK or self.containers > MAX_CONTAINERS:
                raise UserError("a pickle of more opcodes or containers than any checkpoint of a recommender has")
            step(self, argument)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_container(self, value: Any) -> None:
        self.containers += 1
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise ValueError("a group of values ends before it begins")
        return value

    def pop_group(self) -> list:
        """Removes and returns the values above the last mark, and the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
            if at < 0:
                raise ValueError("a group of values without a beginning")
        group = self.stack[at + 1 :]
        del self.stack[at:]
        return group

    def memoize(self, index: int) -> None:
        if index > len(self.memo) or not self.stack or self.stack[-1] is MARK:
            raise ValueError("the memo has gaps")
        self.memo[index : index + 1] = self.stack[-1:]

    def global_(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > 500:
            raise ValueError("the name of a class is no text")
        top = module.partition(".")[0]
        danger = top in FORBIDDEN_MODULES or (top in ("builtins", "__builtin__") and name.partition(".")[0] in FORBIDDEN_BUILTINS)
        if danger or not f"{module}.{name}".isprintable():
            raise UserError(
                f"the file names {f'{module}.{name}'[:80]!r}, which would run code when torch loads it. Nothing of it ran here; "
                "treat the file as an attack and get the model elsewhere"
            )
        self.push_container(Placeholder(f"{module}.{name}"))

    def reduce(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Placeholder) or function.args is not None or not isinstance(arguments, tuple):
            raise UserError("the file calls what is no named class or function; no torch file needs that")
        self.push_container(self.call(function, arguments))

    def extend(self, values: list) -> None:
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target.items.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise ValueError("appends to what is no list")

    def set_items(self, flat: list) -> None:
        target = self.stack[-1]
        if len(flat) % 2:
            raise ValueError("a key without a value")
        if isinstance(target, Placeholder):
            target.items.extend(zip(flat[::2], flat[1::2], strict=True))
        elif isinstance(target, dict):
            for key, value in zip(flat[::2], flat[1::2], strict=True):
                target[self.key(key)] = value
        else:
            raise ValueError("sets entries of what is no dict")

    def key(self, key: Any) -> Any:
        """Returns a key whose hash and comparison take no longer than they should."""
        if type(key) is str or (type(key) is int and abs(key) < 1 << 31):
            return key
        self.odd_keys += 1
        parts = key if type(key) is tuple else (key,)
        if self.odd_keys > MAX_ODD_KEYS or len(parts) > 16 or not all(isinstance(part, _KEY_TYPES) for part in parts):
            raise UserError("a dict with keys that no checkpoint has")
        return key


_KEY_TYPES = (str, int, float, bytes, type(None), Placeholder)


class _Open:
    """A container whose children are being looked at: its id, those to come, how deep it nests and how many values it holds."""

    __slots__ = ("identity", "children", "depth", "values")

    def __init__(self, identity: int, children: Iterable):
        self.identity, self.children, self.depth, self.values = identity, iter(children), 0, 1

    def add(self, depth: int, values: int) -> None:
        self.depth, self.values = max(self.depth, depth + 1), self.values + values
        if self.depth > MAX_DEPTH:
            raise UserError(_NESTED)
        if self.values > MAX_VALUES:
            raise UserError(f"containers shared so often that they would have over {MAX_VALUES} values if written out")


def check_nesting(root: Any) -> None:
    """Raises a UserError if a container holds itself, nests too deep, or has too many values, each counted wherever it is shared.

    So whoever walks through the value comes to an end. What a placeholder holds is looked at by itself.
    """
    roots, done, opened = [root], {}, set()  # done: id -> (depth, values) of a container or placeholder
    while roots:
        trail = [_Open(0, (roots.pop(),))]  # outermost first
        while trail:
            top = trail[-1]
            child = next(top.children, trail)
            if child is trail:
                trail.pop()
                opened.discard(top.identity)
                done[top.identity] = top.depth, top.values
                if trail:
                    trail[-1].add(*done[top.identity])
            elif isinstance(child, Placeholder):
                if id(child) not in done:
                    done[id(child)] = 0, 1
                    roots += [child.args, child.state, child.items]
            elif isinstance(child, dict | list | tuple):
                if id(child) in done:
                    top.add(*done[id(child)])
                elif id(child) in opened or len(trail) > MAX_DEPTH:
                    raise UserError(_NESTED)
                else:
                    opened.add(id(child))
                    trail.append(_Open(id(child), child.values() if isinstance(child, dict) else child))
            else:
                top.values += 1


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
    machine.reduce(function, (*arguments, named) if isinstance(arguments, tuple) else None)


def _build(machine, _):
    state, value = machine.pop(), machine.pop()
    machine.push(machine.build(value, state))


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


_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(
        ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        Machine.push,
    ),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "BINFLOAT"), Machine.push),
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
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), Machine.memoize),
    "MEMOIZE": lambda machine, _: machine.memoize(len(machine.memo)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[index])),
    "GLOBAL": lambda machine, name: machine.global_(*name.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _reduce),
    "NEWOBJ_EX": _newobj_ex,
    "BUILD": _build,
    "BINPERSID": lambda machine, _: machine.push(machine.storage(machine.pop())),
}
