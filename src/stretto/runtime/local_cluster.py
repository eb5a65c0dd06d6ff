"""A cluster whose replicas, and sequencers if it has any, are processes on this machine: a directory with the configuration, and files
and perhaps data for each.

    DIR/cluster.toml    DIR/replica-0.log    DIR/replica-0.pid    DIR/replica-0.data/ ...    DIR/sequencer-0.log    DIR/sequencer-0.pid

A pid file means that the replica was started and not stopped. If its process has ended nevertheless, the replica has died. It comes back
from its data or, without, by recovering from the others, if no more than f of the 2f+1 have lost their memory.
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
"""The loopback interface carries 65,536 bytes in one piece, an Ethernet frame only 1,500: larger datagrams save work here. Not as
large as possible, since a socket's receive buffer must hold many."""

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
    """A configuration for so many replicas and sequencers on this machine, on ports that are free now.

    Raises ConfigurationError if it makes no sense.
    """
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
    """Whether a replica or sequencer with these metrics takes part, if it answered at all."""
    return metrics is not None and metrics.get("status") not in ("bootstrapping", "lost state", "recovering")


class Start(NamedTuple):
    """A process that was just started, and where its part of the log begins."""

    process: subprocess.Popen[bytes]
    log_start: int


class LocalCluster:
    """The processes of the configuration in `directory`. Raises ConfigurationError if there is none.

    Replicas and sequencers go by their addresses, to which `pid_files` and `logs` belong; a replica's is its index.

    `prefix`: what comes before the command that starts the one with that address, to run it elsewhere than here (`ip netns exec ...`).
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
        """Who has this address, for people."""
        n = self.config.n
        return f"replica {address}" if address < n else f"sequencer {address - n}"

    def start(self, answered: Callable[[int], None] = lambda address: None, *, repair: bool = False) -> list[int]:
        """Start all that do not run, and wait until they are in service, calling `answered(address)` for each. Which they were.

        If no replica was running, they start for the first time, or from their data. If some have died, these come back, from their data
        or by recovering from the others. `repair`: a replica whose data is damaged sets it aside and recovers too.

        Raises ClusterFailure if one does not start, or ConfigurationError if that is why; if none ran before, none does then. Raises
        ClusterFailure too if the state is lost with more than f of 2f+1 memories.
        """
        with self._alone():
            addresses = [address for address in range(len(self.config.members)) if self.state(address) != "running"]
            indices = [address for address in addresses if address < self.config.n]
            anew = not any(pid_file.path.exists() for pid_file in self.pid_files[: self.config.n])
            if not anew and not self._on_disk:
                self._refuse_if_lost(indices)
            bootstrap = anew and not (self._on_disk and any(self._has_data(index) for index in indices))
            with ExitStack() as undo:
                if bootstrap and self._on_disk:
                    undo.callback(self._remove_data)
                if anew:
                    undo.callback(self._stop)
                starts = {address: self._start(address, bootstrap=bootstrap, repair=repair and not bootstrap) for address in addresses}
                self._wait_until_in_service(starts, answered)
                undo.pop_all()
            return addresses

    def restart(self, address: int) -> None:
        """Start one that has died, a replica from its data or without memory, and do not wait for it."""
        self._start(address, bootstrap=False)

    def stop(self) -> int:
        """End what runs, forcibly if need be. What is in memory is forgotten, data stays. How many replicas ran."""
        with self._alone():
            return self._stop()

    def kill(self, address: int) -> None:
        """End one at once, as a crash would."""
        self.pid_files[address].signal(signal.SIGKILL)

    def state(self, address: int) -> str:
        """`running`, `died`, or `stopped`."""
        pid_file = self.pid_files[address]
        if pid_file.pid() is not None:
            return "running"
        return "died" if pid_file.path.exists() else "stopped"

    def status(self) -> list[dict[str, Any]]:
        """What is known of each replica; its metrics too, if it answers. A replica that runs and does not is `silent`."""
        return [self._status(index) for index in range(self.config.n)]

    def sequencer_status(self) -> list[dict[str, Any]]:
        """The same of each sequencer."""
        return [self._status(address) for address in range(self.config.n, len(self.config.members))]

    def last_line(self, address: int, start: int = 0) -> str:
        """The last line of somebody's log after the byte `start`, and where the log is."""
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
        """Forget a first start that did not come about. What is served, is served when all take part."""
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
        """Memory is recovered from a majority that has it."""
        f = self.config.n // 2
        if len(dead) <= f:
            return
        who = f"replica {dead[0]} has" if len(dead) == 1 else f"replicas {', '.join(map(str, dead))} have"
        raise ClusterFailure(
            f"{who} died, and no majority is left to recover from: what was stored is lost. To start anew, empty: "
            f'stretto cluster down {self.directory}, then up. With durability "disk" it would not be lost. '
            f"The log of replica {dead[0]} ends: {self.last_line(dead[0])}"
        )

    def _stop(self) -> int:
        kinds = ("replica", "sequencer")  # whatever the configuration says by now
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
