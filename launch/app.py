"""What all programs have in common: flags in, exit status out, one line for a mistake."""

import contextlib
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import jax
from absl import app, flags, logging

from launch import flag, processes
from prec_backdoor.data.registry import cache_folder
from prec_backdoor.errors import UserError
from prec_backdoor.train.interrupt import Stopped, stoppable

HELP = ("--help", "-h", "-help", "--helpshort", "--helpfull")


def run(main: Callable[[], None], define_flags: Callable[[], None]) -> None:
    """Parses the flags, calls `main` and exits.

    Exit status: 0 done, 2 after a mistake of the user's, 130 after Ctrl-C, 143 after SIGTERM, 1 if another of several processes
    has ended.
    """
    program = sys.modules["__main__"]
    _guard(lambda: _load_plugins(sys.argv))
    define_flags()
    _define_common_flags()
    if set(HELP) & set(sys.argv[1:]):
        print(flag.help_text(f"python -m {program.__spec__.name}" if program.__spec__ else sys.argv[0], program.__doc__))
        sys.exit(0)

    def guarded(argv: list[str]) -> int:
        return _guard(lambda: _run(main, argv))

    app.run(guarded, flags_parser=_parse)


def _define_common_flags() -> None:
    flag.define("plugin", None, "output", "Python file that registers attacks, backbones, .. of your own, read first.", str)
    flag.define("profile", None, "output", "Folder for a trace of the JAX profiler; for short runs.", str)
    processes.define_flags()


def _load_plugins(argv: list[str]) -> int:
    """Runs the files of --plugin; before flags are defined, as attacks bring flags of their own."""
    for argument in argv[1:]:
        name, _, path = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "plugin":
            if not Path(path).is_file():
                raise UserError(f"--plugin: {path or 'no file given'}: no such file; write --plugin=FILE.py")
            runpy.run_path(path)
    return 0


def _run(main: Callable[[], None], argv: list[str]) -> int:
    with stoppable():
        if argv[1:]:
            raise UserError(f"unexpected argument {argv[1]!r}; flags look like --name=value")
        flag.check_flags()
        _prepare_jax()
        processes.join()
        profile = flags.FLAGS.profile
        with jax.profiler.trace(profile) if profile else contextlib.nullcontext():
            main()
    return 0


def _guard(call: Callable[[], int]) -> int:
    """Returns the exit status of `call`, after one line on stderr for a mistake of the user's."""
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
    # Compiled programs are kept, so that a second start is quick; Orbax and JAX speak up for warnings only.
    logging.set_verbosity(logging.WARNING)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(_fail(f"{error}; --help lists the flags"))


def _stopped(stop: KeyboardInterrupt) -> int:
    signum, saved = (stop.signum, f"{stop.saved}; " * bool(stop.saved)) if isinstance(stop, Stopped) else (signal.SIGINT, "")
    what = "terminated" if signum == signal.SIGTERM else "interrupted"
    sys.stderr.write(f"{saved}{what}; the same command resumes\n")
    return 128 + signum


def _end_without_others(error: Exception) -> NoReturn:
    """Ends this process when another one has ended: nothing can be computed without it, nor can it be waited for."""
    _fail(f"another process has ended ({str(error).splitlines()[0]}); once all run again, the same commands resume")
    os._exit(1)


def _fail(message: object) -> int:
    sys.stderr.write(f"error: {' '.join(str(message).split())}\n")  # in one write, or threads could write in between
    return 2
