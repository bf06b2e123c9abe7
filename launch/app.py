"""What every program has in common: flags in, exit status out, one line for a mistake."""

import sys
from collections.abc import Callable

from absl import app, flags

from prec_backdoor.errors import UserError


def run(main: Callable[[], None]) -> None:
    """Parses the flags, calls `main` and exits: 0 done, 2 after a mistake of the user's, 130 when interrupted."""

    def guarded(argv: list[str]) -> int:
        try:
            if argv[1:]:
                raise UserError(f"unexpected argument {argv[1]!r}; flags look like --name=value")
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

    app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(_fail(f"{error}; --help lists the flags"))


def _fail(message: object) -> int:
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    return 2
