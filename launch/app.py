"""What all programs share: flags in, exit status out, one line for a mistake."""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import jax
from absl import app, flags, logging

from prec_backdoor.data.registry import cache_folder
from prec_backdoor.errors import UserError
from prec_backdoor.train.interrupt import Stopped, stoppable

from . import flag, processes

HELP = ("--help", "-h", "-help", "--helpshort", "--helpfull")


def run(main: Callable[[], None], define_flags: Callable[[], None] = lambda: None, program: ModuleType | None = None) -> None:
    """Parses the flags in `sys.argv`, calls `main` and exits.

    Exit status: 0 done, 2 after a user's mistake, 130 after Ctrl-C, 143 after SIGTERM, 1 if another process of the run has ended.

    Args:
      program: the module whose docstring is the description in --help; `__main__` by default.
    """
    program = program or sys.modules["__main__"]
    if status := _guard(lambda: _load_plugins(sys.argv)):
        sys.exit(status)
    define_flags()
    define_common_flags()
    if set(HELP) & set(sys.argv[1:]):
        print(help_text(program))
        sys.exit(0)

    def guarded(argv: list[str]) -> int:
        return _guard(lambda: _run(main, argv))

    app.run(guarded, flags_parser=_parse)


def define_common_flags() -> None:
    """The flags of every program."""
    flag.define("plugin", None, "output", "Python file that registers your own attacks, backbones and so on; runs first.", str)
    processes.define_flags()


def command(program: str) -> str:
    """Returns the start of a command line that runs another program in the way in which this one was started."""
    return f"prec-backdoor {program}" if "." in __package__ else f"python -m {__package__}.{program}"


def help_text(program: ModuleType) -> str:
    """Returns what --help prints."""
    name = program.__spec__.name.rpartition(".")[2] if program.__spec__ else ""
    description = (program.__doc__ or "").replace("python -m launch.", command(""))
    return flag.help_text(command(name) if name else sys.argv[0], description)


def _load_plugins(argv: list[str]) -> int:
    """Runs the files of --plugin before flags are defined, as an attack adds flags."""
    for argument in argv[1:]:
        name, _, given = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "plugin":
            path = Path(given).expanduser()
            if path.suffix != ".py" or not path.is_file():
                raise UserError(f"--plugin: no Python file {given or '(none given)'}; write --plugin=FILE.py")
            spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # where dataclasses and Flax look their classes up
            spec.loader.exec_module(module)
    return 0


def _run(main: Callable[[], None], argv: list[str]) -> int:
    with stoppable():
        if argv[1:]:
            raise UserError(f"unexpected argument {argv[1]!r}; flags look like --name=value")
        flag.check_flags()
        _prepare_jax()
        processes.join()
        main()
    return 0


def _guard(call: Callable[[], int]) -> int:
    """Returns the exit status of `call`; prints one line on stderr for a user's mistake."""
    try:
        return call()
    except UserError as error:
        return _fail(error)
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}; check the path and its permissions")
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        _end_without_others(error)


def _prepare_jax() -> None:
    # Compiled programs are kept, so that a second start is quick. Orbax and JAX print warnings only.
    logging.set_verbosity(logging.WARNING)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(_fail(f"{str(error).removeprefix('flag ')}; --help lists the flags"))


def _stopped(stop: KeyboardInterrupt) -> int:
    signum, saved = (stop.signum, f"{stop.saved}; " * bool(stop.saved)) if isinstance(stop, Stopped) else (signal.SIGINT, "")
    what = "terminated" if signum == signal.SIGTERM else "interrupted"
    sys.stderr.write(f"{saved}{what}; the same command resumes\n")
    return 128 + signum


def _end_without_others(error: Exception) -> NoReturn:
    """Ends this process after another one has ended: it can neither compute nor shut down without the other."""
    _fail(f"another process has ended ({str(error).splitlines()[0]}); once all run again, the same commands resume")
    os._exit(1)


def _fail(message: object) -> int:
    sys.stderr.write(f"error: {' '.join(str(message).split())}\n")  # one write, so that threads cannot write in between
    return 2
