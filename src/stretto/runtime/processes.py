"""Child processes of a measurement: they do not receive Ctrl-C, and they are always ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Processes started inside never receive Ctrl-C. Their parent does, and ends them."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def end(processes: Sequence[SpawnProcess]) -> None:
    """End processes, with SIGKILL if SIGTERM does not suffice."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(2.0)
        if process.is_alive():
            process.kill()
            process.join()
