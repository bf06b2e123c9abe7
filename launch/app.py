"""What all programs share: flags in, exit status out, one line for a mistake."""

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

import jax
from absl import app, flags, logging

from prec_backdoor.data.registry import cache_folder
from prec_backdoor.errors import UserError
from prec_backdoor.storage.workdir import NUMERICS
from prec_backdoor.train.interrupt import Stopped, stoppable

from . import flag, plugins, processes
from .pipes import quiet_pipe

HELP = ("--help", "-h", "-help", "--helpshort", "--helpfull")


def run(main: Callable[[], None], define_flags: Callable[[], None] = lambda: None, program: ModuleType | None = None) -> None:
    """Parses the flags in `sys.argv`, calls `main` and exits.

    Exit status: 0 done, 2 after a user's mistake, 130 after Ctrl-C, 143 after SIGTERM, 1 if another process of the run has ended.

    Args:
      program: the module whose docstring is the description in --help; `__main__` by default.
    """
    _use_utf8()
    program = program or sys.modules["__main__"]
    if status := _guard(lambda: _define_flags(define_flags)):
        sys.exit(status)
    if set(HELP) & set(sys.argv[1:]):
        with quiet_pipe():
            print(help_text(program))
        sys.exit(0)

    def guarded(argv: list[str]) -> int:
        with quiet_pipe():
            return _guard(lambda: _run(main, argv))

    app.run(guarded, flags_parser=_parse)


def _use_utf8() -> None:
    """Starts the program again in Python's UTF-8 mode if the locale cannot write every path and title."""
    encodings = {sys.getfilesystemencoding(), (sys.stdout.encoding or "utf-8").lower()}
    if not (sys.flags.utf8_mode or encodings <= {"utf-8", "utf8"}):
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _define_flags(define_flags: Callable[[], None]) -> int:
    """Runs the plugins, then defines the program's flags and those of every program; returns the exit status so far."""
    plugins.load()
    try:
        define_flags()
        define_common_flags()
        app.define_help_flags()
    except flags.DuplicateFlagError as error:  # the programs' own flags are tested
        raise UserError(f"--plugin: a parameter has the name of another flag ({str(error).split('.')[0]}); rename it") from error
    return 0


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


def _run(main: Callable[[], None], argv: list[str]) -> int:
    with stoppable():
        if argv[1:]:
            raise UserError(f"unexpected argument {argv[1]!r}; flags look like --name=value")
        flag.check_flags()
        _prepare_jax()
        processes.join()
        _check_devices()
        main()
    return 0


def _guard(call: Callable[[], int]) -> int:
    """Returns the exit status of `call`; prints one line on stderr for a user's mistake."""
    try:
        return call()
    except UserError as error:
        return _fail(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        place = error.filename or ("workdir" in flags.FLAGS and flags.FLAGS.workdir)  # a full disk does not say which file
        where, full = f"{place}: " if place else "", error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room, then run the same command again: it resumes" if full else "check the path and its permissions"
        return _fail(f"{where}{error.strerror or error}; {remedy}")
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    except Exception as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1:
            _end_without_others(error)
        return _unforeseen(error)


def _unforeseen(error: Exception) -> int:
    """The one place where an error that no `UserError` foresees becomes one line, and a file with the traceback."""
    text, reason = "".join(traceback.format_exception(error)), str(error).strip().split("\n")[0][:300]
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        _fail(f"out of memory ({reason}); lower --batch_size or --embed_dim, or use --shard_items on several devices")
        return 1
    with tempfile.NamedTemporaryFile("w", prefix="prec_backdoor-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(f"{' '.join(sys.argv)}\n\n{text}")
    what = f"{type(error).__name__}: {reason}; the traceback is in {file.name}"
    if place := plugins.place_of(error):
        return _fail(f"--plugin: {place}: {what}")
    _fail(f"unforeseen {what}, please report it")
    return 1


def _prepare_jax() -> None:
    # Compiled programs are kept, so that a second start is quick. Orbax and JAX print warnings only.
    logging.set_verbosity(logging.WARNING)
    for name, value in NUMERICS.items():  # whatever the environment says: results depend on them
        jax.config.update(name, value)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:  # JAX's own name for it
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _check_devices() -> None:
    """Raises a UserError if JAX finds no device; to be called once all processes have met."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter is JAX's own for JAX_PLATFORMS=cuda without CUDA
        reason = str(error).strip().split("\n")[0] or f"JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS')}"
        raise UserError(f"JAX finds no device ({reason}); unset JAX_PLATFORMS, or install JAX for that platform") from error


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
