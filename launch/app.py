"""What every program has in common: flags in, exit status out, one line for a mistake."""

import contextlib
import sys
from collections.abc import Callable

import jax
from absl import app, flags, logging

from prec_backdoor.data.registry import cache_folder
from prec_backdoor.errors import UserError

PROFILE = flags.DEFINE_string("profile", None, "Folder for a trace of the JAX profiler; for short runs.")


def run(main: Callable[[], None]) -> None:
    """Parses the flags, calls `main` and exits: 0 done, 2 after a mistake of the user's, 130 when interrupted."""

    def guarded(argv: list[str]) -> int:
        try:
            if argv[1:]:
                raise UserError(f"unexpected argument {argv[1]!r}; flags look like --name=value")
            _prepare_jax()
            with jax.profiler.trace(PROFILE.value) if PROFILE.value else contextlib.nullcontext():
                main()
            return 0
        except UserError as error:
            return _fail(error)
        except OSError as error:
            if error.filename is None:
                raise
            return _fail(f"{error.filename}: {error.strerror}; check the path and its permissions")
        except KeyboardInterrupt:
            print("interrupted; the same command resumes", file=sys.stderr)
            return 130

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


def _fail(message: object) -> int:
    sys.stderr.write(f"error: {' '.join(str(message).split())}\n")  # at once, or threads could write in between
    return 2
