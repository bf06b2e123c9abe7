"""Reads files one after another in a process that watches itself: python -m interop.read_hostile SOUND FILE... -> JSON lines."""

import json
import sys
import time

from prec_backdoor.errors import UserError
from prec_backdoor.interop import read_torch

WATCHED = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "exec",
    "compile",
    "import",
    "pickle.find_class",
)
WATCHED += ("socket.connect", "os.remove", "os.rename", "os.mkdir", "ctypes.dlopen")
seen: list[str] = []


def watch(event: str, arguments: tuple) -> None:
    if event in WATCHED or (
        event == "open" and (arguments[2] & 3 or (len(sys.argv) > 1 and str(arguments[0]) not in sys.argv[1:]))
    ):
        seen.append(f"{event} {arguments!r:.200}")


def peak_memory() -> int:
    """The highest memory of this process so far, in kB; getrusage's would include the one that started it."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])


def main() -> None:
    read_torch(sys.argv[1])  # imports whatever reading needs
    sys.addaudithook(watch)
    for path in sys.argv[2:]:
        started, error, other = time.process_time(), None, None
        seen.clear()
        try:
            read_torch(path)
        except UserError as caught:
            error = str(caught)
        except BaseException as caught:
            other = f"{type(caught).__name__}: {caught}"
        seconds, ran = time.process_time() - started, list(seen)
        peak = peak_memory()
        print(
            json.dumps({"path": path, "error": error, "other": other, "seconds": seconds, "ran": ran, "peak": peak}), flush=True
        )


if __name__ == "__main__":
    main()
