"""The files of --plugin, which run before flags are defined, as an attack adds flags."""

import importlib.util
import sys
import traceback
from pathlib import Path

from prec_backdoor.errors import UserError


def load() -> None:
    """Runs the files; raises a UserError if there is no such file."""
    for given in _given():
        path = Path(given).expanduser().absolute()
        if path.suffix != ".py" or not path.is_file():
            raise UserError(f"--plugin: {given or 'none given'}: no such file; write --plugin=FILE.py")
        spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses and Flax look their classes up
        spec.loader.exec_module(module)


def place_of(error: Exception) -> str:
    """Returns the last line of a plugin that an error came through, "FILE, line N"; empty if it came through none."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename, error.lineno))
    files = {str(Path(given).expanduser().absolute()) for given in _given()}
    found = [f"{file}, line {line}" for file, line in places if file in files]
    return found[-1] if found else ""


def _given() -> list[str]:
    flags = (argument.lstrip("-").partition("=") for argument in sys.argv[1:] if argument.startswith("-"))
    return [path for name, _, path in flags if name == "plugin"]
