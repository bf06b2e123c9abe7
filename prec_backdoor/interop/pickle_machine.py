"""Evaluates a pickle without running it: an explicit stack machine over an allow-list of opcodes.

Nothing is imported and nothing is called. Classes and functions that the file names are inert `Placeholder`s; what a call of one
stands for is up to the `call` that the reader gives. Every other library unpickles by running code that the file chooses.
"""

import pickletools
from collections.abc import Callable
from typing import Any

from prec_backdoor.errors import UserError
from prec_backdoor.interop.nesting import check_nesting
from prec_backdoor.interop.opcodes import MARK, STEPS
from prec_backdoor.interop.placeholder import Placeholder, check_name

MAX_BYTES = 1 << 25  # of one pickle: a million item ids have 20 bytes each
MAX_OPCODES = 2_500_000
MAX_CONTAINERS = 250_000  # lists, dicts, tuples and placeholders; a tensor has 4
MAX_STACK = 1 << 20
MAX_ODD_KEYS = 2_000  # dict keys other than strings and small integers, whose hashes a file can choose to be equal
_KEY_TYPES = (str, int, float, bytes, type(None), Placeholder)


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
        """Returns the value of a pickle: containers, str, bytes, int, float, bool, None, Placeholders, and what `call` makes.

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
            step = STEPS.get(opcode.name)
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

    def recall(self, index: int) -> None:
        value = self.memo[index]
        replaced = value.replaced if isinstance(value, Placeholder) else None
        self.push(value if replaced is None else replaced)

    def global_(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > 500:
            raise ValueError("the name of a class is no text")
        check_name(module, name)
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
