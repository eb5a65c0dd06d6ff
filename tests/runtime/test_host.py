"""Nodes on real sockets of one machine: which node receives what, in which datagrams, and what is refused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hosting import Hosting, Note, Recorder, Scenario, local_config
from stretto.core.config import ClusterConfig, Limits
from stretto.core.framing import Framing
from stretto.runtime import host as host_module
from stretto.runtime.addresses import endpoint_of, endpoint_to_int, member_endpoint
from stretto.runtime.batching import PlainReceiver, plain_send_many

Play = Callable[[ClusterConfig, Scenario], None]
MS = 1_000_000


@pytest.mark.parametrize("multicast", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_every_replica_receives_a_multicast_once(play: Play, multicast: bool, batched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not batched:
        monkeypatch.setattr(host_module, "Receiver", PlainReceiver)
        monkeypatch.setattr(host_module, "send_many", plain_send_many)

    async def scenario(hosting: Hosting) -> None:
        replicas = [hosting.replica(index) for index in range(3)]
        client = hosting.client()
        for number in range(100):
            client.port.multicast(Note(number))
        replicas[1].port.multicast(Note(1_000))
        await hosting.until(lambda: all(len(replica.got) == 101 for replica in replicas))
        await asyncio.sleep(0.02)
        for replica in replicas:
            assert [number for number in replica.numbers() if number < 1_000] == list(range(100))
            assert {source for source, note in replica.got if note.number < 1_000} == {client.port.address}
            assert [source for source, note in replica.got if note.number == 1_000] == [1]
        assert client.got == []
        assert client.port.metrics()["datagrams_sent"] <= (10 if multicast else 30)

    play(local_config(3, multicast=multicast), scenario)


def test_without_loopback_a_replica_still_receives_its_own_multicast(play: Play) -> None:
    config = local_config(3, multicast=True)
    assert config.multicast is not None
    config = msgspec.structs.replace(config, multicast=msgspec.structs.replace(config.multicast, loopback=False))

    async def scenario(hosting: Hosting) -> None:
        node = hosting.replica(0)
        node.port.multicast(Note(1))
        await hosting.until(lambda: node.got)
        assert set(node.got) == {(0, Note(1))}  # the loopback interface delivers another copy, regardless of the option

    play(config, scenario)


def test_replicas_and_clients_send_by_address(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        replicas = [hosting.replica(index) for index in range(3)]
        client = hosting.client()
        replicas[2].reaction = lambda source, note: replicas[2].port.send(source, Note(note.number + 1))
        client.port.send(2, Note(1))
        await hosting.until(lambda: client.got)
        assert replicas[2].got == [(client.port.address, Note(1))]
        assert client.got == [(2, Note(2))]
        replicas[0].port.send(2, Note(5))
        await hosting.until(lambda: replicas[0].got)
        assert replicas[0].got == [(2, Note(6))]

    play(local_config(3), scenario)


def test_the_messages_of_one_burst_share_datagrams(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        server, shared, single = hosting.replica(0), hosting.client(), hosting.client(1)

        def answer(source: int, note: Note) -> None:
            for number in range(note.number):
                server.port.send(source, Note(number))

        server.reaction = answer
        for client, datagrams in ((shared, 1), (single, 10)):
            sent = server.port.datagrams_sent
            received = server.port.datagrams_received
            for _ in range(10):
                client.port.send(0, Note(3))
            await hosting.until(lambda: len(client.got) == 30)  # noqa: B023
            assert client.numbers() == [0, 1, 2] * 10
            assert server.port.datagrams_received - received == datagrams
            assert server.port.datagrams_sent - sent <= datagrams

    play(local_config(1), scenario)


def test_a_message_to_itself_is_delivered_in_a_later_call(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        node, client = hosting.replica(0), hosting.client()

        def count_down(source: int, note: Note) -> None:
            if note.number:
                node.port.send(0, Note(note.number - 1))  # Recorder asserts that it is not called within this call

        node.reaction = count_down
        node.port.send(0, Note(50))
        await hosting.until(lambda: len(node.got) == 51)
        assert node.numbers() == list(range(50, -1, -1))
        node.got.clear()
        client.port.send(0, Note(30))
        await hosting.until(lambda: len(node.got) == 31)
        assert node.port.datagrams_sent == 0

    play(local_config(1), scenario)


def test_a_node_that_always_sends_to_itself_does_not_starve_the_others(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        node, client = hosting.replica(0), hosting.client()
        node.reaction = lambda source, note: node.port.send(0 if source == 0 else source, note)
        node.port.send(0, Note(7))
        client.port.send(0, Note(8))
        await hosting.until(lambda: client.got)

    play(local_config(1), scenario)


def test_destinations_that_cannot_exist_are_dropped_and_counted(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        node, client = hosting.replica(0), hosting.client()
        impossible = [-1, 3, 1 << 39, 224 << 40, 1 << 48, 1 << 90]
        unlikely = [(127 << 24 | 1) << 16, (1 << 40) + 5]  # port 0; an address that no node has

        def answer(source: int, note: Note) -> None:
            for destination in (*impossible, *unlikely, source):
                node.port.send(destination, note)

        node.reaction = answer
        client.port.send(0, Note(1))
        await hosting.until(lambda: client.got)
        assert node.port.metrics()["messages_dropped"] == len(impossible)
        assert node.port.metrics()["datagrams_dropped"] >= 1
        client.port.send(0, Note(2, bytes(3_000)))  # the same, over streams
        await hosting.until(lambda: len(client.got) == 2)

    play(local_config(3), scenario)


def test_foreign_datagrams_are_refused_with_a_reason(play: Play) -> None:
    config = local_config(3)

    async def scenario(hosting: Hosting) -> None:
        node = hosting.replica(0)
        types = (Note,)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            own = endpoint_to_int(sock.getsockname())
            limit = config.limits.max_datagram_bytes

            def framed(sender: int, cluster: bytes = config.digest(), text: bytes = b"") -> bytes:
                return Framing(cluster, sender, types, 60_000).pack([Note(1, text)])[0][0]

            strange = {
                "empty datagram": b"",
                "not a Stretto datagram": b"GET / HTTP/1.1",
                "datagram cut short": framed(own)[:10],
                "cannot be decoded": framed(own)[:-1],
                "not a message of this protocol": framed(own).replace(b"\x93\x28", b"\x93\x29"),
                "another cluster or configuration": framed(own, bytes(8)),
                "datagram larger than max_datagram_bytes": framed(own, text=bytes(limit)),
                "sender does not match its address": framed(own + 1),
            }
            for datagram in (*strange.values(), framed(1), framed(0), framed(own)):
                sock.sendto(datagram, endpoint_of(member_endpoint(config, 0)))
            await hosting.until(lambda: node.got)
            assert node.got == [(own, Note(1))]
            expected = dict.fromkeys(strange, 1) | {"sender does not match its address": 3, "node's own": 1}
            assert node.port.metrics()["ignored_messages"] == dict(sorted(expected.items()))

    play(config, scenario)


def test_timers_fire_and_their_messages_are_sent(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        node, client = hosting.replica(0), hosting.client()
        on_timer = node.on_timer

        def speak(name: str) -> None:
            on_timer(name)
            node.port.send(client.port.address, Note(len(node.fired)))
            if len(node.fired) < 5:
                node.port.set_timer(name, 2 * MS)

        node.on_timer = speak  # type: ignore[method-assign]
        begun = node.port.now_ns
        node.port.set_timer("tick", 2 * MS)
        node.port.set_timer("never", 2 * MS)
        node.port.cancel_timer("never")
        await hosting.until(lambda: len(client.got) == 5)
        assert [name for name, _ in node.fired] == ["tick"] * 5
        assert all(at - begun >= 2 * MS * (count + 1) for count, (_, at) in enumerate(node.fired))

    play(local_config(1), scenario)


def test_a_node_may_use_its_port_while_it_is_built(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        class Eager(Recorder):
            def __init__(self, port: Any) -> None:
                super().__init__(port)
                port.send(0, Note(1))
                port.send(1, Note(2))
                port.set_timer("early", 0)

        import hosting as module

        other = hosting.replica(1)
        plain, module.Recorder = module.Recorder, Eager  # type: ignore[misc]
        try:
            node = hosting.replica(0)
        finally:
            module.Recorder = plain  # type: ignore[misc]
        await hosting.until(lambda: node.got and node.fired and other.got)
        assert node.got == [(0, Note(1))]
        assert other.got == [(0, Note(2))]

    play(local_config(3), scenario)


def test_a_burst_larger_than_one_call_arrives_completely(play: Play) -> None:
    config = msgspec.structs.replace(local_config(1), limits=Limits(max_datagram_bytes=512))

    async def scenario(hosting: Hosting) -> None:
        node, client = hosting.replica(0), hosting.client()
        for number in range(1_000):
            client.port.send(0, Note(number, bytes(200)))
        await hosting.until(lambda: len(node.got) == 1_000)
        assert node.numbers() == list(range(1_000))
        assert client.port.datagrams_sent == 500

    play(config, scenario)
