"""A cluster whose replicas and sequencers are processes on this machine. One directory holds the configuration and the files of each.

    DIR/cluster.toml    DIR/replica-0.log    DIR/replica-0.pid    DIR/replica-0.data/ ...    DIR/sequencer-0.log    DIR/sequencer-0.pid

A pid file means that the process was started and not stopped. If the process has ended nevertheless, it has died. A replica that died
restarts from its data. Without data it recovers from the others, if at most f of the 2f+1 replicas have lost their state.
"""

from __future__ import annotations

import fcntl
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from stretto.core.config import FILE_NAME, ClusterConfig, Durability, Limits, Member, Multicast, load_config
from stretto.core.errors import ConfigurationError, StrettoError
from stretto.runtime.metrics import metrics_or_none
from stretto.runtime.pid_file import PidFile

LOOPBACK = "127.0.0.1"
LOOPBACK_DATAGRAM_BYTES = 16_384
"""The loopback interface carries up to 65,536 bytes per packet, Ethernet only 1,500, so larger datagrams save work here. They are not as
large as possible, because a socket's receive buffer must hold many."""

MOST_REPLICAS = 99
START_SECONDS = 20.0
STOP_SECONDS = 5.0
PROBE_SECONDS = 0.5
PAUSE_SECONDS = 0.02


class ClusterFailure(StrettoError):
    """A replica or sequencer could not be started, or has died."""


def loopback_config(
    replicas: int,
    protocol: str,
    service: str,
    *,
    sequencers: int = 0,
    multicast: bool = True,
    durability: Durability = "memory",
    **limits: int,
) -> ClusterConfig:
    """A configuration for this many replicas and sequencers on this machine, on ports that are free now.

    Raises ConfigurationError if the values are invalid.
    """
    if replicas > MOST_REPLICAS:  # before ports are looked for: that would take them from all other programs meanwhile
        raise ConfigurationError(f"{replicas} are too many for one machine; at most {MOST_REPLICAS} can be set up here", key="replicas")
    *ports, group_port = _free_ports(max(replicas, 0) + sequencers + 1)
    members = tuple(Member(LOOPBACK, port) for port in ports)
    return ClusterConfig(
        members[: len(members) - sequencers],
        protocol=protocol,
        service=service,
        durability=durability,
        sequencers=members[len(members) - sequencers :],
        multicast=Multicast("239.83.84.1", group_port, LOOPBACK) if multicast else None,
        limits=Limits(**({"max_datagram_bytes": LOOPBACK_DATAGRAM_BYTES} | limits)),
    ).validate()


def in_service(metrics: dict[str, Any] | None) -> bool:
    """Whether a replica or sequencer with these metrics takes part in the protocol. None means that it did not answer."""
    return metrics is not None and bool(metrics.get("in_service", True))


class Start(NamedTuple):
    """A process that was just started, and the byte at which its output in the log file begins."""

    process: subprocess.Popen[bytes]
    log_start: int


class LocalCluster:
    """The processes of the configuration in `directory`. Raises ConfigurationError if it has no configuration.

    Addresses identify replicas and sequencers, and are the indices of `pid_files` and `logs`. A replica's address is its index.

    `prefix(address)` is put before the command that starts a process, to run it somewhere else (`ip netns exec ...`).
    """

    def __init__(self, directory: Path, prefix: Callable[[int], Sequence[str]] = lambda address: ()) -> None:
        self.directory = directory
        self.file = directory / FILE_NAME
        if not self.file.is_file():
            raise ConfigurationError(f"there is none; make one with: stretto cluster init {directory}", file=self.file)
        self.config = load_config(self.file)
        names = [self.name(address).replace(" ", "-") for address in range(len(self.config.members))]
        self.pid_files = [PidFile(directory / f"{name}.pid") for name in names]
        self.logs = [directory / f"{name}.log" for name in names]
        self.data = [directory / f"replica-{index}.data" for index in range(self.config.n)]
        self._prefix = prefix

    @classmethod
    def create(cls, directory: Path, config: ClusterConfig, prefix: Callable[[int], Sequence[str]] = lambda address: ()) -> LocalCluster:
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
        return cls(directory, prefix)

    def name(self, address: int) -> str:
        """The name of a replica or sequencer in messages."""
        n = self.config.n
        return f"replica {address}" if address < n else f"sequencer {address - n}"

    def start(self, answered: Callable[[int], None] = lambda address: None, *, repair: bool = False) -> list[int]:
        """Start every process that does not run, wait until it is in service, and call `answered(address)`. Returns their addresses.

        If no replica has a pid file, all start for the first time, or from their data. Otherwise the missing ones restart from their data
        or recover from the others. `repair`: a replica with damaged data sets it aside and recovers too.

        Raises ClusterFailure if a process does not start, or ConfigurationError if the configuration is the reason. If none ran before,
        those that have started are stopped again. Also raises ClusterFailure if more than f of 2f+1 replicas have lost their state.
        """
        with self._locked():
            addresses = [address for address in range(len(self.config.members)) if self.state(address) != "running"]
            indices = [address for address in addresses if address < self.config.n]
            first = not any(pid_file.path.exists() for pid_file in self.pid_files[: self.config.n])
            if not first and not self._on_disk:
                self._refuse_if_lost(indices)
            bootstrap = first and not (self._on_disk and any(self._has_data(index) for index in indices))
            with ExitStack() as undo:
                if bootstrap and self._on_disk:
                    undo.callback(self._remove_data)
                if first:
                    undo.callback(self._stop)
                starts = {address: self._start(address, bootstrap=bootstrap, repair=repair and not bootstrap) for address in addresses}
                self._wait_until_in_service(starts, answered)
                undo.pop_all()
            return addresses

    def restart(self, address: int) -> None:
        """Start a process that has died, and do not wait for it. A replica restarts from its data, or with lost state."""
        self._start(address, bootstrap=False)

    def stop(self) -> int:
        """End all running processes, with SIGKILL if needed. Data on disk stays. Returns how many replicas ran."""
        with self._locked():
            return self._stop()

    def kill(self, address: int) -> None:
        """Kill a process, as a crash would."""
        self.pid_files[address].signal(signal.SIGKILL)

    def end(self, address: int) -> None:
        """End a process in an orderly way, and wait until it has ended."""
        self.pid_files[address].signal(signal.SIGTERM)
        if not self.pid_files[address].wait(STOP_SECONDS):
            self.kill(address)
            self.pid_files[address].wait(STOP_SECONDS)

    def state(self, address: int) -> str:
        """`running`, `died`, or `stopped`."""
        pid_file = self.pid_files[address]
        if pid_file.pid() is not None:
            return "running"
        return "died" if pid_file.path.exists() else "stopped"

    def status(self) -> list[dict[str, Any]]:
        """The state of each replica, with its metrics if it answers. A replica that runs and does not answer is `silent`."""
        return [self._status(index) for index in range(self.config.n)]

    def sequencer_status(self) -> list[dict[str, Any]]:
        """The same for each sequencer."""
        return [self._status(address) for address in range(self.config.n, len(self.config.members))]

    def last_line(self, address: int, start: int = 0) -> str:
        """The last line of a process's log after the byte `start`, and the path of the log."""
        with self.logs[address].open("rb") as log:
            log.seek(start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        line = lines[-1].removeprefix("stretto: ") if lines else "nothing was logged"
        return f"{line} ({self.logs[address]})"

    def _status(self, address: int) -> dict[str, Any]:
        member = self.config.members[address]
        state = self.state(address)
        metrics = None
        if state == "running":
            metrics = self._metrics(address)
            state = state if metrics is not None else "silent"
        return {
            "index": address if address < self.config.n else address - self.config.n,
            "address": f"{member.host}:{member.port}",
            "state": state,
            "pid": self.pid_files[address].pid(),
            "log": str(self.logs[address]),
            "metrics": metrics,
        }

    def _metrics(self, address: int) -> dict[str, Any] | None:
        return metrics_or_none(self.config, address, PROBE_SECONDS)

    @property
    def _on_disk(self) -> bool:
        return self.config.durability == "disk"

    def _has_data(self, index: int) -> bool:
        return self.data[index].is_dir() and any(self.data[index].iterdir())

    def _remove_data(self) -> None:
        """Remove the data of a first start that failed. Nothing is lost: no client was served, because not all replicas took part."""
        for data in self.data:
            for file in data.glob("*"):
                file.unlink()

    def _start(self, address: int, *, bootstrap: bool, repair: bool = False) -> Start:
        kind, index = self.name(address).split()
        command = [*self._prefix(address), sys.executable, "-m", "stretto", kind, "--config", str(self.file), "--index", index]
        if address < self.config.n:
            command += ["--bootstrap"] if bootstrap else []
            command += ["--data", str(self.data[address])] if self._on_disk else []
            command += ["--repair"] if repair else []
        with self._log(address) as log:
            position = log.tell()
            return Start(self.pid_files[address].start(command, log), position)

    @contextmanager
    def _log(self, address: int) -> Iterator[IO[bytes]]:
        try:
            with self.logs[address].open("ab") as log:
                yield log
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error.strerror}", file=self.logs[address]) from None

    def _wait_until_in_service(self, starts: dict[int, Start], answered: Callable[[int], None]) -> None:
        deadline = time.monotonic() + START_SECONDS
        waiting = list(starts)
        while waiting:
            for address in tuple(waiting):
                process, log_start = starts[address]
                if (status := process.poll()) is not None:
                    reason = f"{self.name(address)} did not start: {self.last_line(address, log_start)}"
                    raise ConfigurationError(reason) if status == 2 else ClusterFailure(reason)
                metrics = self._metrics(address)
                if in_service(metrics):
                    waiting.remove(address)
                    answered(address)
                elif time.monotonic() > deadline:
                    what = "does not answer" if metrics is None else f"is not in service but {metrics['status']}"
                    raise ClusterFailure(f"{self.name(address)} {what}: {self.last_line(address, log_start)}")
            time.sleep(PAUSE_SECONDS if waiting else 0)

    def _refuse_if_lost(self, dead: list[int]) -> None:
        """Raise ClusterFailure if no majority is left that a replica with lost state could recover from."""
        f = self.config.n // 2
        if len(dead) <= f:
            return
        who = f"replica {dead[0]} has" if len(dead) == 1 else f"replicas {', '.join(map(str, dead))} have"
        raise ClusterFailure(
            f"{who} died, and no majority is left to recover from: the stored data is lost. To start again with an empty cluster: "
            f'stretto cluster down {self.directory}, then up. With durability "disk" the data would survive. '
            f"The log of replica {dead[0]} ends: {self.last_line(dead[0])}"
        )

    def _stop(self) -> int:
        kinds = ("replica", "sequencer")  # also those that a changed configuration no longer has
        pid_files = [PidFile(path) for kind in kinds for path in self.directory.glob(f"{kind}-*.pid")]
        running = [pid_file for pid_file in pid_files if pid_file.signal(signal.SIGTERM)]
        deadline = time.monotonic() + STOP_SECONDS
        for pid_file in running:
            if not pid_file.wait(max(0.0, deadline - time.monotonic())):
                pid_file.signal(signal.SIGKILL)
                pid_file.wait(STOP_SECONDS)
        for pid_file in pid_files:
            pid_file.remove()
        return sum(pid_file.path.name.startswith("replica") for pid_file in running)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the cluster against other commands that start or stop it."""
        with self.file.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterFailure(f"another command is starting or stopping the cluster in {self.directory}") from None
            yield


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback address that are free for UDP and TCP now."""
    with ExitStack() as opened:
        ports: list[int] = []
        while len(ports) < count:
            stream = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            datagram = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            stream.bind((LOOPBACK, 0))
            port = stream.getsockname()[1]
            try:
                datagram.bind((LOOPBACK, port))
            except OSError:
                continue
            ports.append(port)
        return ports
