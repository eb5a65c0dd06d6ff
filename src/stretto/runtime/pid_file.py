"""A process that a command started and a later command must find again, but never take another one for it.

Process ids are used again. So the file holds the id and the time at which the process started, and signals go through a pidfd that was
opened before that time was compared: what it stands for can end, but not become a stranger.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_outliving: list[subprocess.Popen[bytes]] = []
"""Processes that may outlive this one. They are kept here, so that Popen does not complain of that."""


class PidFile:
    """The process that is remembered in the file `path`, if there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, pid: int) -> None:
        """Remember a process that was just started."""
        self.path.write_text(f"{pid} {_start_time(pid) or 0}\n", encoding="ascii")

    def start(self, command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a command that may outlive this process, and remember it; what it prints goes to `log`.

        It begins when it is remembered, so that nothing ever runs that the file does not name, whenever this process is killed.
        """
        process = subprocess.Popen(
            ["sh", "-c", 'read -r go && exec "$@"', "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in this terminal does not reach it
        )
        _outliving[:] = [*(former for former in _outliving if former.poll() is None), process]
        assert process.stdin is not None
        with process.stdin as gate:
            self.write(process.pid)
            gate.write(b"go\n")
        return process

    def remove(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)

    def pid(self) -> int | None:
        """Its id, if it still runs."""
        with self._open() as opened:
            return None if opened is None else opened[0]

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal. False if it had ended."""
        with self._open() as opened:
            if opened is None:
                return False
            signal.pidfd_send_signal(opened[1], number)
            return True

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended. False if it still runs after `seconds`."""
        with self._open() as opened:
            return opened is None or bool(select.select([opened[1]], [], [], seconds)[0])

    @contextmanager
    def _open(self) -> Iterator[tuple[int, int] | None]:
        """Id and pidfd of the process; None if it has ended or was never started."""
        try:
            pid, started = map(int, self.path.read_text(encoding="ascii").split())
            descriptor = os.pidfd_open(pid)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            yield None
            return
        try:
            yield (pid, descriptor) if _start_time(pid) == started else None
        finally:
            os.close(descriptor)


def _start_time(pid: int) -> int | None:
    """When it started, in clock ticks since the machine did; None if it has ended, waited for or not (see proc_pid_stat(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else int(fields[19])
