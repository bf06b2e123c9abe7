"""One owner per workdir: a lock that ends with its process, however that ends."""

import contextlib
import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from prec_backdoor import parallel
from prec_backdoor.errors import UserError

NAME = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Holds `folder`, which is made if need be, for this process; of several processes of one run, the primary one holds it.

    The lock is the kernel's (flock), so a dead owner's is none. On NFS it needs the server's lock service, as Linux has by
    default; on a file system without locks a warning says that nothing is checked.

    Raises:
      UserError: another process holds the folder; names it.
    """
    path = Path(folder) / NAME
    with contextlib.ExitStack() as stack:
        owner = _take(path, stack) if parallel.primary() else ""
        if not parallel.agree([not owner])[0]:
            raise UserError(f"{folder}: in use by {owner or 'another process'}; wait for it to end, or give another --workdir")
        yield


def _take(path: Path, stack: contextlib.ExitStack) -> str:
    """Locks the file until the stack unwinds; returns who holds it otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = stack.enter_context(open(path, "a+", encoding="utf-8"))  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        return file.read(200).strip() or "another process"
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        print(f"warning: {path}: this file system has no locks; do not start a second run in the folder", file=sys.stderr)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    stack.callback(file.truncate, 0)
    return ""
