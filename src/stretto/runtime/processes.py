"""Processes that are parts of a measurement: started without Ctrl-C, ended in any case."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """A process that is started in here never sees Ctrl-C: its starter does, and ends it."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def end(processes: Sequence[SpawnProcess]) -> None:
    """End processes, forcibly if need be."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(2.0)
        if process.is_alive():
            process.kill()
            process.join()
