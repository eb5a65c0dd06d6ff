"""The costs of datagrams, messages and operations in one process, each measured alone: for what loads on real clusters cannot separate.

In most protocols a replica receives a request, executes it and sends a reply, always as often, so a load shows only the sum of their
costs. Here each step is repeated by itself. Caches are warm and no other process runs, so only the proportions of the results are used.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import process_time_ns
from typing import Any

from stretto.bench.ports import IdlePort
from stretto.core.config import ClusterConfig, Member
from stretto.core.framing import CLUSTER_BYTES, Framing
from stretto.core.node import Address, Message
from stretto.core.protocol import BOOTSTRAP
from stretto.core.state_machine import NullMachine
from stretto.protocols.unreplicated import UNREPLICATED
from stretto.replication.messages import OPEN_SESSION, Request
from stretto.replication.state import ReplicatedState
from stretto.runtime.addresses import endpoint_to_int
from stretto.runtime.batching import Receiver, send_many

_ROUNDS = 7
_REQUESTS = 2_000
_TOGETHER = 32
_DATAGRAMS = 64
_CLIENT: Address = 1 << 40
_ENOUGH = 1 << 40


@dataclass(frozen=True)
class Microbenchmarks:
    """Processor times in nanoseconds.

    `receive_datagram_ns`, `send_datagram_ns`: of one datagram where a call takes many. `receive_message_ns`: to decode a message and to
    handle it. `send_message_ns`: to encode it. `execute_ns`: to execute an operation and to append it to the log.
    """

    receive_datagram_ns: float
    send_datagram_ns: float
    receive_message_ns: float
    send_message_ns: float
    execute_ns: float


class _Port(IdlePort):
    """A port that keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Message] = []

    def send(self, destination: Address, message: Message) -> None:
        self.sent.append(message)

    def multicast(self, message: Message) -> None:
        self.sent.append(message)


def run_microbenchmarks() -> Microbenchmarks:
    """Run all microbenchmarks. This takes a tenth of a second."""
    requests = [Request(_CLIENT, 1, number, 1_700_000_000_000_000_000 + number, number, b"") for number in range(1, _REQUESTS + 1)]
    framing = Framing(bytes(CLUSTER_BYTES), _CLIENT, UNREPLICATED.message_types, 65_507)
    datagrams = [framing.pack(requests[first : first + _TOGETHER])[0][0] for first in range(0, _REQUESTS, _TOGETHER)]
    port = _Port()
    handled_ns = _per_item(lambda: _handler(port), requests)
    replies = port.sent[-_REQUESTS:]
    batches = [replies[first : first + _TOGETHER] for first in range(0, _REQUESTS, _TOGETHER)]
    executed_ns = _per_item(_executor, requests)
    decoded_ns = _per_item(lambda: framing.unpack, datagrams) / _TOGETHER
    encoded_ns = _per_item(lambda: framing.pack, batches) / _TOGETHER
    single = [framing.pack([request])[0][0] for request in requests[:_DATAGRAMS]]
    unpacked_ns = _per_item(lambda: framing.unpack, single) - decoded_ns
    packed_ns = _per_item(lambda: framing.pack, [[reply] for reply in replies]) - encoded_ns
    received_ns, sent_ns = _datagrams(single)
    return Microbenchmarks(
        receive_datagram_ns=received_ns + max(0.0, unpacked_ns),
        send_datagram_ns=sent_ns + max(0.0, packed_ns),
        receive_message_ns=decoded_ns + max(0.0, handled_ns - executed_ns),
        send_message_ns=encoded_ns,
        execute_ns=executed_ns,
    )


def _handler(port: _Port) -> Callable[[Request], None]:
    config = ClusterConfig((Member("127.0.0.1", 1),), "unreplicated", "")
    server = UNREPLICATED.replica(port, config, 0, NullMachine(), BOOTSTRAP)
    server.on_message(_CLIENT, _OPENING)
    return lambda request: server.on_message(_CLIENT, request)


def _executor() -> Callable[[Request], Any]:
    state = ReplicatedState(NullMachine(), 1, _ENOUGH)
    state.append(_OPENING)
    return state.append


_OPENING = Request(_CLIENT, OPEN_SESSION, 1, 1_700_000_000_000_000_000, 0, b"")


def _per_item(fresh: Callable[[], Callable[[Any], Any]], items: Sequence[Any]) -> float:
    """The processor time for one item: the median over rounds, each of which calls a new function of `fresh` with every item."""
    rounds = []
    for _ in range(_ROUNDS):
        act = fresh()
        began_ns = process_time_ns()
        for item in items:
            act(item)
        rounds.append((process_time_ns() - began_ns) / len(items))
    return median(rounds)


def _datagrams(datagrams: list[bytes]) -> tuple[float, float]:
    """The processor time to receive and to send one of these datagrams over the loopback interface: medians over rounds."""
    received, sent = [], []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        endpoint = endpoint_to_int(sink.getsockname())
        receive = Receiver(sink, _DATAGRAMS, 65_507).receive
        addressed = [(endpoint, datagram) for datagram in datagrams]
        for _ in range(_ROUNDS * _ROUNDS):
            began_ns = process_time_ns()
            taken = send_many(source, addressed)
            between_ns = process_time_ns()
            arrived = len(receive())
            ended_ns = process_time_ns()
            sent.append((between_ns - began_ns) / max(1, taken))
            received.append((ended_ns - between_ns) / max(1, arrived))
    return median(received), median(sent)
