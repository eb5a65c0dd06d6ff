"""The latency floor: the time of a bare multicast echo, with datagrams of the same sizes and as many processes, but no protocol."""

from __future__ import annotations

import multiprocessing
from array import array
from collections import deque
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from time import monotonic_ns
from typing import Any

import numpy as np

from stretto.bench.clients import LoadFailure
from stretto.bench.ports import IdlePort
from stretto.bench.report import percentile_us
from stretto.catalog import protocol_for, service
from stretto.core.config import ClusterConfig
from stretto.core.framing import Framing
from stretto.core.node import Address, Message, Node
from stretto.core.protocol import BOOTSTRAP
from stretto.runtime.addresses import endpoint_of, endpoint_to_int, member_endpoint
from stretto.runtime.processes import end, interrupts_blocked
from stretto.runtime.sockets import open_client_sockets, open_member_sockets

WARM_UP_ROUNDS = 500
ROUNDS = 5_000
_PATIENCE_S = 1.0
_LONGEST_IDLE_S = 30.0
_NUMBER_BYTES = 8
_DEADLINE_S = 60.0


def latency_floor_us(config: ClusterConfig, operation: bytes) -> float:
    """The median time from one multicast to the last of the answers of `config.n` blocking processes, in microseconds.

    The processes use the sockets of `config`, so the cluster must not run yet. Datagrams are as long as those of `operation`. Raises
    LoadFailure if a process does not start or does not finish.
    """
    request_bytes, reply_bytes = datagram_sizes(config, operation)
    spawn = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    ours, theirs = spawn.Pipe()
    try:
        with interrupts_blocked():
            for index in range(config.n):
                up, echo_up = spawn.Pipe()
                processes.append(spawn.Process(target=_echo, args=(echo_up, config, index, reply_bytes), daemon=True))
                processes[-1].start()
                echo_up.close()
                _expect(up, "an echo process did not start")
            processes.append(spawn.Process(target=_probe, args=(theirs, config, request_bytes), daemon=True))
            processes[-1].start()
            theirs.close()
        rounds = np.frombuffer(_expect(ours, "the echo measurement did not finish"), np.int64)
    finally:
        end(processes)
    middle = percentile_us(rounds, 0.5)
    assert middle is not None
    return middle


def _expect(pipe: Connection, what: str) -> Any:
    if not pipe.poll(_DEADLINE_S):
        raise LoadFailure(what)
    try:
        return pipe.recv()
    except EOFError:
        raise LoadFailure(what) from None


def _echo(pipe: Connection, config: ClusterConfig, index: int, reply_bytes: int) -> None:
    """Answer each datagram to the group."""
    sockets = open_member_sockets(config, index)
    listening = sockets.group or sockets.datagrams
    listening.settimeout(_LONGEST_IDLE_S)  # so the process ends by itself if its parent has died
    sockets.datagrams.setblocking(True)
    filler = bytes(max(0, reply_bytes - _NUMBER_BYTES))
    pipe.send(None)
    while True:
        request, source = listening.recvfrom(65_536)
        sockets.datagrams.sendto(request[:_NUMBER_BYTES] + filler, source)


def _probe(pipe: Connection, config: ClusterConfig, request_bytes: int) -> None:
    """Measure rounds of one multicast and all answers to it. A round in which a datagram is lost does not count."""
    sock = open_client_sockets(config).datagrams
    sock.settimeout(_PATIENCE_S)
    group = config.multicast
    to = [(group.group, group.port)] if group else [endpoint_of(member_endpoint(config, index)) for index in range(config.n)]
    filler = bytes(max(0, request_bytes - _NUMBER_BYTES))
    times_ns = array("q")
    number = 0
    while len(times_ns) < WARM_UP_ROUNDS + ROUNDS:
        number += 1
        mark = number.to_bytes(_NUMBER_BYTES, "big")
        missing = config.n
        started_ns = monotonic_ns()
        for endpoint in to:
            sock.sendto(mark + filler, endpoint)
        try:
            while missing:
                missing -= sock.recv(65_536).startswith(mark)
        except TimeoutError:
            continue
        times_ns.append(monotonic_ns() - started_ns)
    pipe.send(times_ns[WARM_UP_ROUNDS:].tobytes())


# The sizes of the datagrams, found by one exchange between the protocol's own nodes in memory


class _Wire(IdlePort):
    """The port of one node in memory: every message arrives at once and in order."""

    def __init__(self, address: Address, members: range, sent: deque[tuple[Address, Address, Message]]) -> None:
        super().__init__()
        self.address = address
        self._members = members
        self._sent = sent

    def send(self, destination: Address, message: Message) -> None:
        self._sent.append((self.address, destination, message))

    def multicast(self, message: Message) -> None:
        for member in self._members:
            self.send(member, message)


def datagram_sizes(config: ClusterConfig, operation: bytes) -> tuple[int, int]:
    """The bytes of the datagrams that carry one request of `operation`, and one answer to it. Counters in them are still small."""
    definition = protocol_for(config)
    make_machine = service(config.service)
    sent: deque[tuple[Address, Address, Message]] = deque()
    members = range(config.n)
    address = endpoint_to_int(("127.0.0.1", 50_000))
    nodes: dict[Address, Node] = {
        index: definition.replica(_Wire(index, members, sent), config, index, make_machine(), BOOTSTRAP) for index in members
    }
    client = nodes[address] = definition.client(_Wire(address, members, sent), config)
    results: list[Any] = []
    client.call(operation, 1_700_000_000_000_000_000, results.append)
    last: dict[bool, Message] = {}
    while sent and not results:
        source, destination, message = sent.popleft()
        if address in (source, destination):
            last[source == address] = message
        nodes[destination].on_message(source, message)
    assert results, f"{definition.name} answers no request before a timer fires"
    framing = Framing(config.digest(), address, definition.message_types, config.limits.max_datagram_bytes)
    request, reply = (sum(map(len, framing.pack([last[from_client]])[0])) for from_client in (True, False))
    return request, reply
