"""Bounds on how containers hold each other, so that whoever walks through what a file holds comes to an end."""

from collections.abc import Iterable
from typing import Any

from prec_backdoor.errors import UserError
from prec_backdoor.interop.placeholder import Placeholder

MAX_DEPTH = 64
MAX_VALUES = 25_000_000  # those of a container count wherever it is shared
_NESTED = f"a container that holds itself, or containers nested deeper than {MAX_DEPTH}"


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
