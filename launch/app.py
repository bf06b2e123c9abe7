"""What every program has in common: flags in, exit status out, one line for a mistake."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import jax
from absl import app, flags, logging

from launch import processes
from prec_backdoor.data.registry import cache_folder
from prec_backdoor.errors import UserError
from prec_backdoor.train.interrupt import Stopped, stoppable

PROFILE = flags.DEFINE_string("profile", None, "Folder for a trace of the JAX profiler; for short runs.")


def run(main: Callable[[], None]) -> None:
    """Parses the flags, calls `main` and exits: 0 done, 2 after a mistake of the user's, 130 after Ctrl-C, 143 after SIGTERM,
    1 when another of several processes has ended."""

    def guarded(argv: list[str]) -> int:
        try:
            with stoppable():
                if argv[1:]:
                    raise UserError(f"unexpected argument {argv[1]!r}; flags look like --name=value")
                _prepare_jax()
                processes.join()
                with jax.profiler.trace(PROFILE.value) if PROFILE.value else contextlib.nullcontext():
                    main()
            return 0
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
            return _bereft(error)

    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        for flag in defined if module.startswith("launch.") else ():
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # --help tells all of ours
    app.run(guarded, flags_parser=_parse)


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


def _bereft(error: Exception) -> NoReturn:
    """Ends this process when another one has: nothing can be computed without it, nor can it be waited for."""
    _fail(f"another process has ended ({str(error).splitlines()[0]}); once all run again, the same commands resume")
    os._exit(1)


def _fail(message: object) -> int:
    sys.stderr.write(f"error: {' '.join(str(message).split())}\n")  # at once, or threads could write in between
    return 2
