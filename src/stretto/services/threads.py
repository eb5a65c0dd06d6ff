"""What an operation must not feel of the thread that runs it: how deep its stack is, and that a person interrupts the process.

How deep a call may recurse depends on how deep its caller is, and that differs: a replica executes a request when it arrives, when its
leader sends it, when logs are merged, and when it starts again. So what raises RecursionError is taken back and run once more here, where
the depth that remains is the same at every replica. An outcome then depends on the log and not on the path to the call.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

DEPTH = 10_000
"""How many nested calls fit, counted from the beginning of the stack. (From Python 3.12 on, calls from C have a lower limit of their own,
which is fixed for each thread.)"""

STACK_BYTES = 256 << 20
"""The size of the stack: room for DEPTH calls through C, about 26 KB each. Only the part that is used takes memory."""

RESERVE = 32
"""How many levels of the depth an operation leaves to those who encode what it has stored: a snapshot nests every value a little deeper."""

_one_at_a_time = threading.Lock()


def on_own_stack(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function on a new stack, and wait for it. Returns what it returns, and raises what it raises."""
    ended: list[tuple[R, None] | tuple[None, BaseException]] = []

    def run() -> None:
        try:
            ended.append((function(*args, **kwargs), None))
        except BaseException as error:
            ended.append((None, error))

    with _one_at_a_time:  # both settings are the process's: no other thread may be here meanwhile
        thread = threading.Thread(target=run, name="stretto deep call", daemon=True)
        former_size, former_limit = threading.stack_size(STACK_BYTES), sys.getrecursionlimit()
        try:
            sys.setrecursionlimit(max(DEPTH, former_limit))
            thread.start()
            threading.stack_size(former_size)
            thread.join()
        finally:
            threading.stack_size(former_size)
            sys.setrecursionlimit(former_limit)
    result, error = ended[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def with_reserve(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function RESERVE levels deeper than here. Each level goes through C, since that has a limit of its own from Python 3.12 on."""

    def descend(levels: int) -> R:
        return next(map(descend, (levels - 1,))) if levels else function(*args, **kwargs)

    return descend(RESERVE)


def is_interrupt(error: BaseException) -> bool:
    """Whether a person has interrupted the process, and not the operation itself raised this.

    A replica's process takes SIGINT through its event loop, so no method is ever interrupted there. Where a program or a test runs a
    service in its main thread, Python raises KeyboardInterrupt in whatever runs, and that must end the program.
    """
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
