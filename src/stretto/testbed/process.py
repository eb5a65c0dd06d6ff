"""A process of a testbed, which outlives the command that started it, with its pid file, log and socket."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from stretto.runtime.pid_file import PidFile
from stretto.testbed.record import TestbedFailure

_START_SECONDS = 20.0
_END_SECONDS = 5.0
_PAUSE_SECONDS = 0.005


class Process:
    """The process `name`, whose files NAME.pid, NAME.log and NAME.sock are in `directory`."""

    def __init__(self, directory: Path, name: str) -> None:
        self.log = directory / f"{name}.log"
        self._name = name
        self._socket = directory / f"{name}.sock"
        self._pid_file = PidFile(directory / f"{name}.pid")

    @property
    def pid(self) -> int | None:
        """The id of the process; None if it does not run."""
        return self._pid_file.pid()

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the process, without waiting for its socket."""
        with self.log.open("ab") as log:
            return self._pid_file.start(command, log)

    def wait_for_socket(self) -> None:
        """Wait until the process listens at its socket. Raises TestbedFailure with the end of its log if it does not."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._listens():
            if self.pid is None or time.monotonic() > deadline:
                raise TestbedFailure(f"{self._name} did not start: {self.last_line()}")
            time.sleep(_PAUSE_SECONDS)

    def kill(self) -> None:
        """Kill the process, without waiting for its end."""
        self._pid_file.signal(signal.SIGKILL)

    def wait(self) -> None:
        """Wait until the process has ended."""
        self._pid_file.wait(_END_SECONDS)

    def last_line(self) -> str:
        """The last line of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].removeprefix("stretto: ") if lines else "it logged nothing"

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self._socket))
            except OSError:
                return False
            return True
