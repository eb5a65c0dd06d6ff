"""The cluster's time: whose clocks matter, and by how much."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from stretto.core.config import ClusterConfig, Member, Timeouts
from stretto.core.protocol import BOOTSTRAP
from stretto.core.state_machine import NullMachine
from stretto.protocols.adaptive.client import AdaptiveClient
from stretto.protocols.adaptive.messages import COMMITTED, AdaptiveReply
from stretto.protocols.unreplicated.replica import Server
from stretto.replication.clock import INTERVAL_NS, ClockSamples, ClusterClock
from stretto.replication.group import Group
from stretto.replication.messages import OPEN_SESSION, GetTime, Request, TimeReply
from stretto.testing import RecordingPort

CLIENT = 1 << 20
HOUR = 3_600_000_000_000
MS = 1_000_000
T = 1_800_000_000_000_000_000
"""The true time at which these tests begin."""
CONFIG = ClusterConfig(tuple(Member("127.0.0.1", 7_000 + index) for index in range(3)), timeouts=Timeouts(max_clock_skew_ms=100))


class ClockPort(RecordingPort):
    """A port with a wall clock that is wrong by `error_ns`."""

    error_ns = 0

    @property
    def wall_ns(self) -> int:
        return T + self.now_ns + self.error_ns


def clock_of(index: int = 0, error_ns: int = 0, n: int = 3) -> tuple[ClockPort, ClusterClock]:
    port = ClockPort(index, replicas=n)
    port.error_ns = error_ns
    clock = ClusterClock(Group(port, msgspec.structs.replace(CONFIG, replicas=CONFIG.replicas[:n]), index), CONFIG)
    clock.begin()
    return port, clock


def hear(clock: ClusterClock, port: ClockPort, *errors_ns: int) -> None:
    """The other replicas answer; their clocks have these errors. A round trip takes 2 ms."""
    sent_ns = port.now_ns
    port.advance(2 * MS)
    for peer, error_ns in zip(clock.group.peers, errors_ns, strict=False):
        clock.on_time_reply(peer, TimeReply(sent_ns, T + sent_ns + MS + error_ns))


def test_the_time_is_the_median_and_of_two_the_lower() -> None:
    samples = ClockSamples(2)
    known = []
    for replica, offset in ((0, 100 + HOUR), (1, 100)):
        samples.add(replica, 0, offset, 0)
        known.append(samples.known)
    assert known == [False, True]
    assert samples.offset_ns == 100
    samples.add(2, 0, 300, 0)
    assert samples.offset_ns == 300


def test_the_sample_with_the_least_round_trip_counts_for_a_while() -> None:
    samples = ClockSamples(1)
    samples.add(0, 1_000, 50_000, 1_200)
    assert samples.offset_ns == 50_000 - 1_100
    samples.add(0, 2_000, 99_000, 9_000)
    assert samples.offset_ns == 50_000 - 1_100, "a longer round trip says less"
    later = 11 * INTERVAL_NS
    samples.add(0, later, later + 7, later + 10)
    assert samples.offset_ns == 2, "but clocks drift"
    for sent, now in ((later + 50, later + 20), (-(1 << 70), later)):
        samples.add(0, sent, 1, now)
    assert samples.offset_ns == 2, "round trips that cannot be"


@pytest.mark.parametrize("error_ns", [-T, -HOUR, 0, HOUR, (1 << 62)])
def test_one_wrong_clock_does_not_matter(error_ns: int) -> None:
    """Whether it is that of the replica that judges, or of another one."""
    for own, others in ((error_ns, (0, 0)), (0, (error_ns, 0)), (0, (0, error_ns))):
        port, clock = clock_of(error_ns=own)
        hear(clock, port, *others)
        now = T + port.now_ns
        assert clock.allows(now)
        assert clock.allows(now - HOUR)
        assert clock.allows(now + 199 * MS)
        assert not clock.allows(now + 203 * MS)
        assert not clock.allows(now + HOUR)
        if own:
            assert any(event == "clock differs from the others'" for event, _ in port.reports)


def test_a_limit_that_was_allowed_once_is_not_computed_again() -> None:
    port, clock = clock_of()
    hear(clock, port, 0, 0)
    assert clock.allows(T)
    limit = clock.limit_ns
    port.advance(HOUR)
    assert clock.limit_ns == limit
    assert clock.allows(T + HOUR)


def test_until_a_majority_has_answered_everything_is_allowed() -> None:
    """A replica that hears nobody cannot know that its own clock is right."""
    _, clock = clock_of(error_ns=-HOUR)
    assert clock.allows(T + 10 * HOUR)


def test_a_server_drops_a_request_of_another_century() -> None:
    config = ClusterConfig(CONFIG.replicas[:1], protocol="unreplicated")
    port = ClockPort(0, replicas=1)
    server = Server(port, config, 0, NullMachine(), BOOTSTRAP)
    far = T + 100 * 365 * 24 * HOUR
    server.on_message(CLIENT, Request(CLIENT, OPEN_SESSION, 1, far, 0, b""))
    assert port.take_sent() == []
    assert server.group.ignored == {"stamped far ahead of the cluster's time": 1}
    server.on_message(CLIENT, Request(CLIENT, OPEN_SESSION, 2, T, 0, b""))
    assert len(port.take_sent()) == 1
    server.on_message(CLIENT, GetTime(5))
    assert port.take_sent() == [(CLIENT, TimeReply(5, T))]
    assert server.metrics()["clock_offsets_ms"] == {"0": 0.0}


def hear_client(client: AdaptiveClient, source: int, message: Any) -> None:
    client.on_message(source, message)


def replied(client: AdaptiveClient, port: RecordingPort, result: bytes) -> None:
    request = next(message for _, message in reversed(port.sent) if isinstance(message, Request))
    client.on_message(0, AdaptiveReply(0, 1, b"", request.session, request.number, result, COMMITTED, False))


@pytest.mark.parametrize("wall_error_ns", [0, HOUR, -T])
def test_a_client_stamps_with_the_clocks_of_the_replicas(wall_error_ns: int) -> None:
    """Its own wall clock may say 1970: it does not matter."""
    port = ClockPort(CLIENT, replicas=3)
    port.error_ns = wall_error_ns
    client = AdaptiveClient(port, CONFIG)
    ended: list[object] = []
    client.call(b"x", None, ended.append)
    assert [type(message) for _, message in port.sent].count(GetTime) == 3
    replied(client, port, msgspec.msgpack.encode(1 << 62))
    assert not any(isinstance(message, Request) and message.operation for _, message in port.sent), "it waits for the time"
    for replica, error_ns in ((2, HOUR), (0, 3 * MS)):
        hear_client(client, replica, TimeReply(port.now_ns, T + port.now_ns + error_ns))
    request = cast(Request, port.sent[-1][1])
    assert (request.operation, request.time_ns) == (b"x", T + 3 * MS)
    replied(client, port, b"done")
    assert ended == [b"done"]
    client.check_invariants()


def test_a_call_that_waits_for_the_time_ends_all_the_same() -> None:
    port = ClockPort(CLIENT, replicas=3)
    client = AdaptiveClient(port, CONFIG)
    ended: list[object] = []
    client.call(b"x", None, ended.append, timeout_ns=100 * MS)
    replied(client, port, msgspec.msgpack.encode(1 << 62))
    for _ in range(30):
        port.advance(5 * MS)
        client.on_timer("tick")
    assert [str(error) for error in ended] == ["no replica answered; the operation was not sent"]
    assert [type(message) for _, message in port.sent].count(GetTime) > 10
    hear_client(client, 0, TimeReply(0, T))
    hear_client(client, 1, TimeReply(0, T))
    client.check_invariants()


def test_no_answer_makes_a_stamp_that_cannot_be_sent() -> None:
    """The greatest wall clock that a message can carry, from all replicas."""
    decode = msgspec.msgpack.Decoder(TimeReply).decode
    for wrong in (-1, 1 << 62, (1 << 64) - 1):
        with pytest.raises((msgspec.MsgspecError, OverflowError)):
            decode(msgspec.msgpack.encode([65, 0, wrong]))
    port = ClockPort(CLIENT, replicas=3)
    port.advance(HOUR)
    client = AdaptiveClient(port, CONFIG)
    client.call(b"x", None, lambda outcome: None)
    for replica in range(3):
        hear_client(client, replica, decode(msgspec.msgpack.encode([65, 0, (1 << 62) - 1])))
        hear_client(client, replica, decode(msgspec.msgpack.encode([65, port.now_ns, (1 << 62) - 1])))
    replied(client, port, msgspec.msgpack.encode(1 << 62))
    port.advance(HOUR)
    request = port.sent[-1][1]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=Request) == request
