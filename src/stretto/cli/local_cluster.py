"""A cluster whose replicas are processes on this machine: a directory with the configuration, and a log and a pid file for each.

    DIR/cluster.toml    DIR/replica-0.log    DIR/replica-0.pid   ...

A pid file means that the replica was started and not stopped. If its process has ended nevertheless, the replica has died, and its
memory with it: it must not come back under the same index with an empty one, as it would forget what it has promised.
"""

from __future__ import annotations

import fcntl
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from stretto.catalog import protocol_for
from stretto.catalog import service as make_service
from stretto.cli.options import FILE_NAME
from stretto.cli.pid_file import PidFile
from stretto.core.config import ClusterConfig, Limits, Member, Multicast, load
from stretto.core.errors import ConfigurationError, StrettoError
from stretto.runtime.metrics import fetch_metrics

LOOPBACK = "127.0.0.1"
LOOPBACK_DATAGRAM_BYTES = 16_384
"""The loopback interface carries 65,536 bytes in one piece, an Ethernet frame only 1,500: larger datagrams save work here. Not as
large as possible, since a socket's receive buffer must hold many."""

START_SECONDS = 20.0
STOP_SECONDS = 5.0
PROBE_SECONDS = 0.5
PAUSE_SECONDS = 0.02


class ClusterFailure(StrettoError):
    """A replica could not be started, or has died."""


def loopback_config(replicas: int, protocol: str, service: str, *, multicast: bool = True, **limits: int) -> ClusterConfig:
    """A configuration for `replicas` on this machine, on ports that are free now. Raises ConfigurationError if it makes no sense."""
    *ports, group_port = _free_ports(max(replicas, 0) + 1)
    config = ClusterConfig(
        tuple(Member(LOOPBACK, port) for port in ports),
        protocol=protocol,
        service=service,
        multicast=Multicast("239.83.84.1", group_port, LOOPBACK) if multicast else None,
        limits=Limits(**({"max_datagram_bytes": LOOPBACK_DATAGRAM_BYTES} | limits)),
    ).validate()
    protocol_for(config)
    make_service(service)
    return config


class Start(NamedTuple):
    """A process that was just started, and where its part of the log begins."""

    process: subprocess.Popen[bytes]
    log_start: int


class LocalCluster:
    """The replica processes of the configuration in `directory`. Raises ConfigurationError if there is none."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / FILE_NAME
        if not self.file.is_file():
            raise ConfigurationError(f"there is none; make one with: stretto cluster init {directory}", file=self.file)
        self.config = load(self.file)
        self.pid_files = [PidFile(directory / f"replica-{index}.pid") for index in range(self.config.n)]
        self.logs = [directory / f"replica-{index}.log" for index in range(self.config.n)]

    @classmethod
    def create(cls, directory: Path, config: ClusterConfig) -> LocalCluster:
        """Write the configuration into a directory that has none."""
        file = directory / FILE_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(config.to_toml())
        except FileExistsError:
            raise ConfigurationError("exists already and is left as it is; name another directory", file=file) from None
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error.strerror}", file=file) from None
        return cls(directory)

    def start(self, answered: Callable[[int], None] = lambda index: None) -> bool:
        """Start all replicas, empty, and wait until they answer, calling `answered(index)` for each. False if they ran already.

        Raises ClusterFailure if one does not start, or ConfigurationError if that is why, after ending the others; ClusterFailure if some
        have died since they were started.
        """
        with self._alone():
            started = [pid_file.path.exists() for pid_file in self.pid_files]
            if any(started):
                self._refuse_the_dead()
                return False
            protocol_for(self.config)
            make_service(self.config.service)
            with ExitStack() as undo:
                undo.callback(self._stop)
                starts = [self._start(index) for index in range(self.config.n)]
                self._wait_for_answers(starts, answered)
                undo.pop_all()
            for start in starts:
                start.process.returncode = 0  # it outlives this command, and Popen shall not complain of that
            return True

    def stop(self) -> int:
        """End what runs, forcibly if it does not end by itself, and forget all. How many ran."""
        with self._alone():
            return self._stop()

    def kill(self, index: int) -> None:
        """End one replica at once, as a crash would."""
        self.pid_files[index].signal(signal.SIGKILL)

    def state(self, index: int) -> str:
        """`running`, `died`, or `stopped`."""
        pid_file = self.pid_files[index]
        if pid_file.pid() is not None:
            return "running"
        return "died" if pid_file.path.exists() else "stopped"

    def status(self) -> list[dict[str, Any]]:
        """What is known of each replica; its metrics too, if it answers. A replica that runs and does not is `silent`."""
        return [self._status(index) for index in range(self.config.n)]

    def last_line(self, index: int, start: int = 0) -> str:
        """The last line of a replica's log after the byte `start`, and where the log is."""
        with self.logs[index].open("rb") as log:
            log.seek(start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        line = lines[-1].removeprefix("stretto: ") if lines else "nothing was logged"
        return f"{line} ({self.logs[index]})"

    def _status(self, index: int) -> dict[str, Any]:
        member = self.config.replicas[index]
        state = self.state(index)
        metrics = None
        if state == "running":
            metrics = self._metrics(index)
            state = state if metrics is not None else "silent"
        return {
            "index": index,
            "address": f"{member.host}:{member.port}",
            "state": state,
            "pid": self.pid_files[index].pid(),
            "log": str(self.logs[index]),
            "metrics": metrics,
        }

    def _metrics(self, index: int) -> dict[str, Any] | None:
        try:
            return fetch_metrics(self.config, index, PROBE_SECONDS)
        except StrettoError:
            return None

    def _start(self, index: int) -> Start:
        command = [sys.executable, "-m", "stretto", "replica", "--config", str(self.file), "--index", str(index), "--bootstrap"]
        with self._log(index) as log:
            position = log.tell()
            # A session of its own, so that Ctrl-C in this terminal does not reach it.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.pid_files[index].write(process.pid)
        return Start(process, position)

    @contextmanager
    def _log(self, index: int) -> Iterator[IO[bytes]]:
        try:
            with self.logs[index].open("ab") as log:
                yield log
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error.strerror}", file=self.logs[index]) from None

    def _wait_for_answers(self, starts: list[Start], answered: Callable[[int], None]) -> None:
        deadline = time.monotonic() + START_SECONDS
        waiting = list(range(self.config.n))
        while waiting:
            for index in tuple(waiting):
                process, log_start = starts[index]
                if (status := process.poll()) is not None:
                    reason = f"replica {index} did not start: {self.last_line(index, log_start)}"
                    raise ConfigurationError(reason) if status == 2 else ClusterFailure(reason)
                if self._metrics(index) is not None:
                    waiting.remove(index)
                    answered(index)
                elif time.monotonic() > deadline:
                    raise ClusterFailure(f"replica {index} does not answer: {self.last_line(index, log_start)}")
            time.sleep(PAUSE_SECONDS if waiting else 0)

    def _refuse_the_dead(self) -> None:
        dead = [index for index in range(self.config.n) if self.state(index) != "running"]
        if not dead:
            return
        who = f"replica {dead[0]} has" if len(dead) == 1 else f"replicas {', '.join(map(str, dead))} have"
        raise ClusterFailure(
            f"{who} died since the start, and the memory is lost; there is no recovery yet that would let it rejoin. "
            f"A majority goes on without. To start anew, all of them empty: stretto cluster down, then up. "
            f"Its log ends: {self.last_line(dead[0])}"
        )

    def _stop(self) -> int:
        pid_files = [PidFile(path) for path in self.directory.glob("replica-*.pid")]  # whatever the configuration says by now
        running = [pid_file for pid_file in pid_files if pid_file.signal(signal.SIGTERM)]
        deadline = time.monotonic() + STOP_SECONDS
        for pid_file in running:
            if not pid_file.wait(max(0.0, deadline - time.monotonic())):
                pid_file.signal(signal.SIGKILL)
                pid_file.wait(STOP_SECONDS)
        for pid_file in pid_files:
            pid_file.remove()
        return len(running)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep another command from starting or stopping the same cluster meanwhile."""
        with self.file.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterFailure(f"another command is starting or stopping the cluster in {self.directory}") from None
            yield


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback address that are free for UDP and TCP at this moment."""
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            stream = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            datagram = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            stream.bind((LOOPBACK, 0))
            port = stream.getsockname()[1]
            try:
                datagram.bind((LOOPBACK, port))
            except OSError:
                continue
            ports.append(port)
        return ports
