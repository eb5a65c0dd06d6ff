"""Messages that do not fit a datagram go over TCP. They may be lost like datagrams, and foreign connections are refused."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from hosting import Hosting, Note, Scenario, local_config
from stretto.core.config import ClusterConfig, Limits
from stretto.core.framing import Framing
from stretto.runtime import streams as streams_module
from stretto.runtime.addresses import endpoint_of, member_endpoint
from stretto.runtime.streams import frame_prefix, question, with_length

Play = Callable[[ClusterConfig, Scenario], None]
LARGE = bytes(100_000)


def test_large_messages_pass_in_both_directions(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        replicas = [hosting.replica(index) for index in range(3)]
        client = hosting.client()
        replicas[1].reaction = lambda source, note: replicas[1].port.send(source, Note(note.number, note.text + b"!"))
        for number in range(20):
            client.port.send(1, Note(number, LARGE))
        await hosting.until(lambda: len(client.got) == 20)
        assert client.got == [(1, Note(number, LARGE + b"!")) for number in range(20)]
        replicas[0].port.send(2, Note(1, bytes(5_000_000)))
        await hosting.until(lambda: replicas[2].got)
        assert replicas[2].got == [(0, Note(1, bytes(5_000_000)))]
        assert client.port.metrics()["stream_frames_sent"] == client.port.metrics()["stream_frames_received"] == 20
        assert replicas[0].port.metrics()["ignored_messages"] == {"node's own": 1}

    play(local_config(3), scenario)


@pytest.mark.parametrize("multicast", [False, True])
def test_a_large_multicast_reaches_every_replica_once(play: Play, multicast: bool) -> None:
    async def scenario(hosting: Hosting) -> None:
        replicas = [hosting.replica(index) for index in range(3)]
        client = hosting.client()
        for sender in (client, replicas[0]):
            sender.port.multicast(Note(1))
            sender.port.multicast(Note(2, LARGE))
        await hosting.until(lambda: all(len(replica.got) == 4 for replica in replicas))
        await asyncio.sleep(0.02)
        for replica in replicas:
            source = client.port.address
            expected = [(0, Note(1)), (0, Note(2, LARGE)), (source, Note(1)), (source, Note(2, LARGE))]
            assert sorted(replica.got, key=lambda pair: (pair[0], pair[1].number)) == expected

    play(local_config(3, multicast=multicast), scenario)


def test_only_frames_to_a_peer_that_is_down_are_lost(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        one = hosting.replica(0)
        for number in range(100):
            one.port.send(1, Note(number, LARGE))
            await asyncio.sleep(0.001)
        dropped = one.port.metrics()["stream_frames_dropped"]
        assert 90 <= dropped <= 100
        other = hosting.replica(1)
        deadline = time.monotonic() + 60
        while not other.got:
            one.port.send(1, Note(1_000, LARGE))
            await asyncio.sleep(0.05)
            assert time.monotonic() < deadline
        assert set(other.numbers()) == {1_000}

    play(local_config(3), scenario)


def test_a_restarted_peer_is_reached_again(play: Play) -> None:
    config = local_config(3)

    async def scenario(hosting: Hosting) -> None:
        one, other = hosting.replica(0), hosting.replica(1)
        one.port.send(1, Note(1, LARGE))
        await hosting.until(lambda: other.got)
        hosting.hosts.pop().close()
        await asyncio.sleep(0.05)
        again = hosting.replica(1)
        one.port.send(1, Note(2, LARGE))
        await hosting.until(lambda: again.got)
        assert again.numbers() == [2]

    play(config, scenario)


def test_frames_above_the_limit_are_dropped(play: Play) -> None:
    config = msgspec.structs.replace(local_config(3), limits=Limits(max_stream_bytes=200_000))

    async def scenario(hosting: Hosting) -> None:
        one, other = hosting.replica(0), hosting.replica(1)
        one.port.send(1, Note(1, bytes(200_001)))
        one.port.send(1, Note(2, LARGE))
        await hosting.until(lambda: other.got)
        assert other.numbers() == [2]
        assert one.port.metrics()["stream_frames_dropped"] == 1

    play(config, scenario)


def test_the_queue_for_a_slow_peer_is_bounded(play: Play) -> None:
    config = msgspec.structs.replace(local_config(3), limits=Limits(max_stream_bytes=1_000_000))

    async def scenario(hosting: Hosting) -> None:
        one = hosting.replica(0)
        with socket.create_server(endpoint_of(member_endpoint(config, 1))):  # accepts nothing
            for number in range(500):
                one.port.send(1, Note(number, LARGE))
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            metrics = one.port.metrics()
        assert metrics["stream_frames_dropped"] > 300
        assert metrics["stream_frames_dropped"] + metrics["stream_frames_sent"] == 500

    play(config, scenario)


def test_a_frame_is_not_sent_again_while_it_is_on_its_way(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        one, other = hosting.replica(0), hosting.replica(1)
        for _ in range(20):
            one.port.send(1, Note(1, LARGE))
        one.port.send(1, Note(2, LARGE))
        await hosting.until(lambda: 2 in other.numbers())
        assert other.numbers() == [1, 2]
        assert one.port.metrics()["stream_frames_repeated"] == 19
        one.port.send(1, Note(3, LARGE))
        await hosting.until(lambda: len(other.got) == 3)

        def arrives_again() -> bool:
            one.port.send(1, Note(1, LARGE))
            return len(other.got) > 3

        await hosting.until(arrives_again)
        assert other.numbers()[:4] == [1, 2, 3, 1]

    play(local_config(3), scenario)


def test_foreign_connections_are_refused_and_closed(play: Play) -> None:
    config = local_config(3)
    digest = config.digest()

    def framed(sender: int, number: int = 1, cluster: bytes = digest) -> bytes:
        return Framing(cluster, sender, (Note,), 60_000).pack([Note(number)])[0][0]

    elsewhere = (127 << 24 | 9) << 16 | 4_711  # 127.0.0.9
    cut = {
        with_length(framed(elsewhere, cluster=bytes(8))): "another cluster or configuration",
        b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n": "not a Stretto datagram",
        (1 << 31).to_bytes(4, "big") + framed(elsewhere): "frame larger than max_stream_bytes",
        with_length(b""): "empty datagram",
        with_length(b"St"): "datagram cut short",
        with_length(question(bytes(8))): "not a Stretto datagram",
    }
    kept = {
        with_length(framed(elsewhere)): "sender does not match its address",
        with_length(frame_prefix(digest) + bytes(100)): "not a message of this protocol",
        with_length(frame_prefix(digest)): "datagram cut short",
    }

    async def scenario(hosting: Hosting) -> None:
        node = hosting.replica(0)
        endpoint = endpoint_of(member_endpoint(config, 0))
        for data in (*cut, *kept):
            reader, writer = await asyncio.open_connection(*endpoint)
            half = len(data) // 2
            writer.write(data[:half])
            await asyncio.sleep(0.005)
            writer.write(data[half:])
            if data in kept:
                writer.write(with_length(framed((127 << 24 | 1) << 16 | 4_711, len(data))))
                await hosting.until(lambda: node.got and node.got[-1][1].number == len(data))  # noqa: B023
            else:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 60) == b""
            writer.close()
        expected = dict(Counter([*cut.values(), *kept.values(), "node's own"]))
        assert node.port.metrics()["ignored_messages"] == dict(sorted(expected.items()))

    play(config, scenario)


def test_idle_connections_are_closed_and_opened_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "_IDLE_S", 0.02)

    async def scenario(hosting: Hosting) -> None:
        one, other = hosting.replica(0), hosting.replica(1)
        for number in (1, 2):
            one.port.send(1, Note(number, LARGE))
            await hosting.until(lambda: len(other.got) == number)  # noqa: B023
            await hosting.until(lambda: not one.port._streams.peers)
        assert other.numbers() == [1, 2]

    play(local_config(3), scenario)


def test_peers_that_are_down_make_room_for_others(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "_MAX_PEERS", 4)

    async def scenario(hosting: Hosting) -> None:
        one, other = hosting.replica(0), hosting.replica(1)
        for port in range(10, 20):
            one.port.send((127 << 24 | 1) << 16 | port, Note(0, LARGE))
        await asyncio.sleep(0.05)
        assert len(one.port._streams.peers) == 4
        one.port.send(1, Note(1, LARGE))
        await hosting.until(lambda: other.got)

    play(local_config(3), scenario)
