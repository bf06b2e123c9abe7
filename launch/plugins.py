"""The files of --plugin, which run before flags are defined, as an attack adds flags."""

import importlib.util
import sys
import traceback
from pathlib import Path

from prec_backdoor.errors import UserError


def load() -> int:
    """Runs the files; returns 0, the exit status so far.

    Raises:
      UserError: there is no such file.
    """
    for path in _paths():
        if path.suffix != ".py" or not path.is_file():
            raise UserError(f"--plugin: {path}: no such file of Python; write --plugin=FILE.py")
        spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses and Flax look their classes up
        spec.loader.exec_module(module)
    return 0


def place_of(error: Exception) -> str:
    """Returns the last line of a plugin that an error came through, "FILE, line N"; empty if it came through none."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename, error.lineno))
    files = set(map(str, _paths()))
    found = [f"{file}, line {line}" for file, line in places if file in files]
    return found[-1] if found else ""


def _paths() -> list[Path]:
    given = (argument.lstrip("-").partition("=") for argument in sys.argv[1:] if argument.startswith("-"))
    return [Path(path).expanduser().absolute() for name, _, path in given if name == "plugin"]
