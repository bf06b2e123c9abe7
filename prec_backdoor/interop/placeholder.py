"""What stands for the classes and functions that a pickle names, and which names no checkpoint has a use for."""

from prec_backdoor.errors import UserError

# Read as a placeholder these do no harm here, but a file that names them is made to do some where it is unpickled.
FORBIDDEN_MODULES = frozenset(
    (
        *("os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "runpy", "pty", "importlib", "ctypes", "code", "codeop"),
        *("pickle", "_pickle", "cloudpickle", "dill", "marshal", "webbrowser", "pip", "commands", "pydoc", "timeit", "profile"),
        *("cProfile", "bdb", "pdb", "asyncio", "multiprocessing", "imp", "zipimport"),
    )
)
FORBIDDEN_BUILTINS = frozenset(
    (
        *("eval", "exec", "compile", "open", "__import__", "input", "breakpoint", "execfile", "apply", "setattr", "delattr"),
        *("globals", "locals", "vars"),
    )
)


class Placeholder:
    """A class, a function, or what calling one would have given; never imported, never called.

    Attributes:
      name: "module.qualified_name" of the class or function.
      args: arguments of the call, None for the class or function itself.
      state: what the object would have got as its attributes, usually a dict; None without.
      items: entries that the file adds to it as to a list or a dict.
    """

    __slots__ = ("name", "args", "state", "items", "replaced")

    def __init__(self, name: str, args: tuple | None = None):
        self.name, self.args, self.state, self.items = name, args, None, []
        self.replaced = None  # by what its state makes of it

    def __repr__(self) -> str:
        return f"<{self.name}, not loaded>"


def check_name(module: str, name: str) -> None:
    """Raises a UserError for a class or function that only an attack has a use for."""
    builtin = module in ("builtins", "__builtin__") and name.partition(".")[0] in FORBIDDEN_BUILTINS
    if builtin or module.partition(".")[0] in FORBIDDEN_MODULES or not f"{module}.{name}".isprintable():
        raise UserError(
            f"the file names {f'{module}.{name}'[:80]!r}, which would run code when torch loads it. Nothing of it ran here; "
            "treat the file as an attack and get the model elsewhere"
        )
