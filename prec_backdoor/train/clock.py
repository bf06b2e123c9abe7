"""Where the time of a run goes: compiling, training, validating, ranking, saving."""

import contextlib
import time
from collections.abc import Callable, Iterator

import jax

COMPILES = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compile_clock() -> Iterator[Callable[[], float]]:
    """Yields a function that returns the seconds that XLA has spent compiling in this context, or reading its cache."""
    spent = []

    def listen(event: str, seconds: float, **_) -> None:
        if event == COMPILES:
            spent.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield lambda: sum(spent)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def timed(activity: str, compiled: Callable[[], float], call: Callable) -> tuple:
    """Returns the result of `call()`, and its seconds as {"compile": .., activity: ..}; `compiled` is a `compile_clock`."""
    started, before = time.monotonic(), compiled()
    result = call()
    compiling = compiled() - before
    return result, {"compile": compiling, activity: time.monotonic() - started - compiling}


def added(seconds: dict[str, float], more: dict[str, float], share: float = 1.0) -> dict[str, float]:
    """Returns the sums by activity, `more` counting for a share."""
    return {name: seconds.get(name, 0.0) + share * more.get(name, 0.0) for name in seconds | more}
