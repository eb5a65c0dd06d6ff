"""A file that identifies a process, so that a later command finds the same process again and never another one.

Process ids are reused. The file therefore holds the id and the start time of the process. Signals go through a pidfd that was opened
before the start time was compared: the process of a pidfd can end, but the pidfd never refers to another process.
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
"""Processes that may outlive this one. Keeping them here prevents the ResourceWarning of Popen."""


class PidFile:
    """The process that the file `path` identifies. The file need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, pid: int) -> None:
        """Record a process that was just started."""
        self.path.write_text(f"{pid} {_start_time(pid) or 0}\n", encoding="ascii")

    def start(self, command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a command that may outlive this process, and record it. Its output goes to `log`.

        The command begins only after its process is recorded. So even if this process is killed, no command runs without being recorded.
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
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def pid(self) -> int | None:
        """The id of the process; None if it has ended."""
        with self._open() as opened:
            return None if opened is None else opened[0]

    def signal(self, number: signal.Signals) -> bool:
        """Send the process a signal. Returns False if it has ended."""
        with self._open() as opened:
            if opened is None:
                return False
            signal.pidfd_send_signal(opened[1], number)
            return True

    def wait(self, seconds: float) -> bool:
        """Wait until the process has ended. Returns False if it still runs after `seconds`."""
        with self._open() as opened:
            return opened is None or bool(select.select([opened[1]], [], [], seconds)[0])

    @contextmanager
    def _open(self) -> Iterator[tuple[int, int] | None]:
        """Yield the id and a pidfd of the process; None if it has ended or was never started."""
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
    """The start time of a process, in clock ticks since boot; None if it has ended, even as a zombie (see proc_pid_stat(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before that may contain any character
    return None if fields[0] in "ZX" else int(fields[19])
