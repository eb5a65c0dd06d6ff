"""Free ports, real replica processes, and nodes that record the messages that they receive."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from stretto import catalog
from stretto.core.config import ClusterConfig, Member, Multicast
from stretto.core.errors import ClusterUnavailable, StrettoError
from stretto.core.node import Message
from stretto.runtime.disk import Disk
from stretto.runtime.host import NodeHost
from stretto.runtime.metrics import fetch_metrics
from stretto.runtime.replica import run_replica, run_sequencer
from stretto.runtime.sockets import open_client_sockets, open_member_sockets

GROUP = "239.83.84.7"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that no UDP or TCP socket uses now."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            streams, datagrams = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            held.enter_context(streams)
            held.enter_context(datagrams)
            streams.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                datagrams.bind(streams.getsockname())
                ports.append(streams.getsockname()[1])
    return ports


def local_config(replicas: int, *, multicast: bool = False, **changes: Any) -> ClusterConfig:
    sequencers = catalog.protocol(changes.get("protocol", "speculative")).usual_sequencers
    *ports, group_port = free_ports(replicas + sequencers + 1)
    group = Multicast(GROUP, group_port, "127.0.0.1") if multicast else None
    members = tuple(Member("127.0.0.1", port) for port in ports)
    return ClusterConfig(members[:replicas], **{"sequencers": members[replicas:], "multicast": group, **changes})


class Processes:
    """The replicas and sequencers of one cluster, each in its own process. `prepare` runs first in each process."""

    def __init__(self, config: ClusterConfig, folder: Path, prepare: Callable[[], None] = lambda: None) -> None:
        self.config = config
        self.folder = folder
        self.prepare = prepare
        self.children: list[multiprocessing.process.BaseProcess] = []
        try:
            for address in range(len(config.members)):
                self.children.append(self.start(address))
            for address in range(len(config.members)):
                self.wait_for(address)
        except BaseException:
            self.end()
            raise

    def start(self, index: int, bootstrap: bool = True) -> multiprocessing.process.BaseProcess:
        child = multiprocessing.get_context("fork").Process(target=self._run, args=(index, bootstrap))
        child.start()
        return child

    def _run(self, index: int, bootstrap: bool) -> None:
        self.prepare()
        definition, factory = catalog.protocol_for(self.config), catalog.service(self.config.service)
        data = self.data(index) if self.config.durability == "disk" else None
        try:
            if index >= self.config.n:
                run_sequencer(definition, self.config, index - self.config.n, log=self.log(index))
                os._exit(0)
            run_replica(definition, self.config, index, factory, bootstrap=bootstrap, data=data, log=self.log(index))
        except StrettoError as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)

    def data(self, index: int) -> Path:
        return self.folder / f"replica-{index}.data"

    def log(self, index: int) -> Path:
        return self.folder / f"replica-{index}.log"

    def wait_for(self, index: int) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while True:
            try:
                return fetch_metrics(self.config, index, timeout_s=2)
            except ClusterUnavailable:
                assert time.monotonic() < deadline, f"replica {index} did not start"
                time.sleep(0.02)

    def metrics(self, index: int = 0) -> dict[str, Any]:
        return fetch_metrics(self.config, index, timeout_s=10)

    def end(self) -> list[int | None]:
        for child in self.children:
            if child.is_alive():
                assert child.pid is not None
                os.kill(child.pid, signal.SIGTERM)
        for child in self.children:
            child.join(60)
            if child.is_alive():
                child.kill()
                child.join()
        return [child.exitcode for child in self.children]


class Note(Message, frozen=True, array_like=True, tag=40, gc=False):
    """The message of the recording nodes."""

    number: int
    text: bytes = b""


class Recorder:
    """A node that records the messages and timers that it gets, and calls the test's `reaction`."""

    def __init__(self, port: NodeHost) -> None:
        self.port = port
        self.got: list[tuple[int, Note]] = []
        self.fired: list[tuple[str, int]] = []
        self.reaction: Callable[[int, Note], None] = lambda source, note: None
        self.depth = 0

    def on_message(self, source: int, message: Note) -> None:
        assert self.depth == 0, "called from within a call of its port"
        self.depth += 1
        self.got.append((source, message))
        try:
            self.reaction(source, message)
        finally:
            self.depth -= 1

    def on_timer(self, name: str) -> None:
        self.fired.append((name, self.port.now_ns))

    def snapshot(self) -> Any:
        return None

    def metrics(self) -> dict[str, Any]:
        return {"ignored_messages": {"node's own": 1}}

    def check_invariants(self) -> None:
        pass

    def numbers(self) -> list[int]:
        return [note.number for _, note in self.got]


class Hosting:
    """Recording nodes in one loop: replicas of `config`, and clients."""

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self.hosts: list[NodeHost] = []
        self.stopped: list[str] = []

    def replica(self, index: int, disk: Disk | None = None) -> Recorder:
        return self._start(index, disk=disk)

    def client(self, max_messages_per_datagram: int | None = None) -> Recorder:
        return self._start(None, max_messages_per_datagram)

    def _start(self, index: int | None, max_messages: int | None = None, disk: Disk | None = None) -> Recorder:
        sockets = open_client_sockets(self.config) if index is None else open_member_sockets(self.config, index)
        loop = asyncio.get_running_loop()
        host = NodeHost(
            loop,
            self.config,
            (Note,),
            sockets,
            member=index,
            report=lambda event, details: None,
            disk=disk,
            stopped=self.stopped.append,
            max_messages_per_datagram=max_messages,
        )
        self.hosts.append(host)
        node = Recorder(host)
        host.start(node)
        return node

    async def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not become true in time"
            await asyncio.sleep(0.001)


Scenario = Callable[[Hosting], Coroutine[Any, Any, None]]
