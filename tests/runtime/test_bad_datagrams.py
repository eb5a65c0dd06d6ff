"""A live replica receives every kind of bad datagram between real requests. It answers the requests, and its memory does not grow.

`STRETTO_BAD_DATAGRAMS=1000000` makes a long run; `STRETTO_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

import stretto
from hosting import Processes, local_config
from stretto import catalog
from stretto.apps.kv import KeyValueStore
from stretto.core.config import ClusterConfig
from stretto.core.framing import Framing
from stretto.replication.messages import Entries, Fetch, Request
from stretto.runtime.addresses import endpoint_of, endpoint_to_int, member_endpoint

DATAGRAMS = int(os.environ.get("STRETTO_BAD_DATAGRAMS", "20000"))
BETWEEN_CALLS = 50
FLAT_BYTES = 4 << 20
BYTES_AN_ENTRY = 800


class Hostile:
    """Makes bad datagrams for one cluster, from a foreign socket with the address `own`."""

    def __init__(self, config: ClusterConfig, own: int, rng: random.Random) -> None:
        self.rng = rng
        self.own = own
        self.config = config
        types = catalog.protocol_for(config).message_types
        self.framing = {sender: Framing(config.digest(), sender, types, 60_000) for sender in (own, own + 1, 0, 1, 1 << 63)}
        self.foreign = Framing(bytes(8), own, types, 60_000)
        self.kinds: list[Callable[[], bytes]] = [
            lambda: b"",
            lambda: rng.randbytes(rng.randrange(1, 1_400)),
            lambda: rng.randbytes(rng.randrange(1_473, 60_000)),
            self.cut,
            self.changed,
            lambda: self.header() + rng.randbytes(rng.randrange(200)),
            lambda: self.header() + b"\x91" * rng.randrange(1_000),
            lambda: self.foreign.pack([self.request()])[0][0],
            lambda: self.framing[rng.choice((own + 1, 0, 1, 1 << 63))].pack([self.request()])[0][0],
            lambda: self.framing[own].pack([self.request() for _ in range(rng.randrange(1, 30))])[0][0],
            lambda: self.framing[own].pack([Fetch(self.number(), self.number())])[0][0],
            lambda: self.framing[own].pack([Entries(self.number(), [self.request()])])[0][0],
        ]

    def datagram(self) -> bytes:
        return self.rng.choice(self.kinds)()

    def number(self) -> int:
        return self.rng.choice((0, 1, 7, -1, self.rng.getrandbits(62), (1 << 63) - 1, -(1 << 63)))

    def request(self) -> Request:
        """A request of a session that does not exist, so that it is not executed, with any reply address.

        (With a valid session number a stranger could use the session up. Replicas therefore do not belong on an untrusted network.)
        """
        client = self.rng.choice((self.own, self.own + 1, 1, 99, (1 << 48) - 1))
        session = self.rng.choice((1 << 40, -1, (1 << 63) - 1, self.rng.getrandbits(62) + (1 << 40)))
        return Request(client, session, self.number(), self.number(), self.number(), self.rng.randbytes(self.rng.randrange(50)))

    def header(self) -> bytes:
        return self.framing[self.own].pack([Fetch(1, 1)])[0][0][:20]

    def cut(self) -> bytes:
        frame = self.framing[self.own].pack([self.request()])[0][0]
        return frame[: self.rng.randrange(len(frame))]

    def changed(self) -> bytes:
        frame = bytearray(self.framing[self.own].pack([self.request()])[0][0])
        frame[self.rng.randrange(len(frame))] ^= 1 << self.rng.randrange(8)
        return bytes(frame)


def size_without_log(metrics: dict[str, Any]) -> int:
    """Resident memory, less a generous share for the log: every well-formed request becomes an entry of it."""
    return int(metrics["rss_bytes"]) - BYTES_AN_ENTRY * int(metrics["last_position"])


@pytest.mark.parametrize("protocol", catalog.protocol_names())
def test_bad_datagrams_are_ignored_with_a_reason(processes: Callable[[ClusterConfig], Processes], protocol: str) -> None:
    seed = int(os.environ.get("STRETTO_SEED", str(random.randrange(1 << 32))))
    print(f"replay with STRETTO_SEED={seed}")
    config = local_config(catalog.protocol(protocol).max_replicas or 3, protocol=protocol, multicast=True)
    cluster = processes(config)
    assert config.multicast is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign, stretto.connect(config) as client:
        foreign.bind(("127.0.0.1", 0))
        foreign.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        hostile = Hostile(config, endpoint_to_int(foreign.getsockname()), random.Random(seed))
        targets = [endpoint_of(member_endpoint(config, index)) for index in range(len(config.members))]
        targets.append((config.multicast.group, config.multicast.port))
        store = client.service(KeyValueStore)
        sizes: list[int] = []
        for number in range(DATAGRAMS):
            foreign.sendto(hostile.datagram(), hostile.rng.choice(targets))
            if number % BETWEEN_CALLS == 0:
                assert store.increment(b"total", 1) == number // BETWEEN_CALLS + 1
            if number % (DATAGRAMS // 10) == 0:
                sizes.append(max(size_without_log(cluster.metrics(index)) for index in range(config.n)))
        assert sizes[-1] - sizes[2] < FLAT_BYTES, sizes
    for index in range(config.n):
        metrics = cluster.metrics(index)
        reasons = metrics["ignored_messages"]
        assert {
            "empty datagram",
            "not a Stretto datagram",
            "cannot be decoded",
            "datagram larger than max_datagram_bytes",
            "another cluster or configuration",
            "not a message of this protocol",
            "sender does not match its address",
        } <= set(reasons), reasons
    assert cluster.end() == [0] * len(config.members)
