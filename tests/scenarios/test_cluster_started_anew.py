"""A client lives on while its cluster is ended and started anew, empty: each of its calls ends, and with its own outcome."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import msgspec
import pytest
from acting import MS

from stretto import catalog
from stretto.apps.kv import KeyValueStore
from stretto.core.config import ClusterConfig, Member
from stretto.core.errors import ClusterReset
from stretto.core.node import Client
from stretto.core.state_machine import NullMachine
from stretto.protocols.adaptive.client import AdaptiveClient
from stretto.protocols.adaptive.messages import COMMITTED, MATCHED, AdaptiveReply
from stretto.protocols.nopaxos.messages import Stamped
from stretto.protocols.speculative import SPECULATIVE
from stretto.replication.messages import OtherLife, Request
from stretto.services.service import ServiceCodec, ServiceMachine
from stretto.testing import RecordingPort
from stretto.testing.stage import InFlight, Stage

CODEC = ServiceCodec(KeyValueStore)
PROTOCOLS = [name for name in catalog.protocol_names() if name != "unreplicated"]


def start_anew(stage: Stage) -> None:
    """All replicas end, and are started for the first time again. What is in flight is lost."""
    for index in range(stage.config.n):
        stage.crash(index)
    stage.lose()
    for index in range(stage.config.n):
        stage.bootstrap(index)
    stage.run(50 * MS)
    assert all(replica.metrics()["in_service"] for replica in stage.replicas)


def session_of(flight: InFlight) -> int:
    return cast(Request, flight.message).session


def add(stage: Stage, client: Client, step: int) -> int:
    return stage.call(client, CODEC.encode("increment", (b"n", step)))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_call_of_an_earlier_life_ends_so_and_the_next_one_works(name: str) -> None:
    stage = Stage(catalog.protocol(name), 3, NullMachine)
    client = stage.client()
    stage.call(client, b"before")
    stage.run(50 * MS)
    lost = stage.call(client, b"lost")
    start_anew(stage)
    stage.run(1_000 * MS)
    assert isinstance(stage.results[lost], ClusterReset)
    assert "the operation may have happened before" in str(stage.results[lost])
    after = stage.call(client, b"after")
    stage.run(1_000 * MS)
    assert stage.results[after] == b""
    assert all(b"lost" not in executed(replica) for replica in stage.replicas)


def executed(replica: Any) -> list[bytes]:
    state, log = replica.state, replica.state.log
    return [log.entry_at(place).operation for place in range(log.start + 1, log.last + 1) if state.result_at(place) is not None]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_one_replica_is_not_believed(name: str) -> None:
    stage = Stage(catalog.protocol(name), 3, NullMachine)
    client = stage.client()
    stage.call(client, b"before")
    stage.run(50 * MS)
    call = stage.call(client, b"x")
    kinds = (Request, Stamped)
    (request, *_) = [flight.message for flight in stage.in_flight if isinstance(flight.message, kinds)]
    request = request.request if isinstance(request, Stamped) else request
    for _ in range(2):
        client.on_message(1, OtherLife(request.session, request.number))
    assert call not in stage.results
    stage.run(200 * MS)
    assert stage.results[call] == b""


def test_sessions_that_are_not_in_use_are_given_up_with_it() -> None:
    """Otherwise each of them would cost one more call."""
    stage = Stage(SPECULATIVE, 3, NullMachine)
    client = stage.client()
    for _ in range(5):
        stage.call(client, b"at the same time")
    stage.run(50 * MS)
    assert client.metrics()["sessions"] == 5
    start_anew(stage)
    first = stage.call(client, b"a")
    stage.run(1_000 * MS)
    assert isinstance(stage.results[first], ClusterReset)
    others = [stage.call(client, b"b") for _ in range(5)]
    stage.run(1_000 * MS)
    assert all(stage.results[other] == b"" for other in others)


def test_every_call_ends() -> None:
    """Three calls are under way on three sessions; the requests of two of them are lost with the cluster."""
    stage = Stage(SPECULATIVE, 3, lambda: ServiceMachine(KeyValueStore))
    client = stage.client()
    for _ in range(3):
        stage.call(client, CODEC.encode("get", (b"k",)))
    stage.run(50 * MS)
    handles = [add(stage, client, step) for step in (1, 10, 100)]
    requests = stage.waiting(Request)
    start_anew(stage)
    stage.in_flight = [flight for flight in requests if session_of(flight) == session_of(requests[0])]
    stage.settle()
    assert any(isinstance(stage.results.get(handle), ClusterReset) for handle in handles)
    handles.append(add(stage, client, 7))  # opens a session, at a position that another one had
    stage.settle()
    stage.run(30_000 * MS)
    assert all(handle in stage.results for handle in handles)


def test_an_answer_is_that_of_the_call() -> None:
    """A late request of the earlier life arrives just before the first one of the session that is opened at the same position."""
    stage = Stage(SPECULATIVE, 3, lambda: ServiceMachine(KeyValueStore))
    client = stage.client()
    for _ in range(2):
        stage.call(client, CODEC.encode("get", (b"k",)))
    stage.deliver(Request)  # both sessions are opened
    for index in range(3):
        stage.deliver(source=index)  # and have their first request under way
    old = stage.waiting(Request)
    start_anew(stage)
    new = add(stage, client, 7)
    stage.settle(lambda flight: not isinstance(flight.message, Request) or session_of(flight) == 0)
    stage.in_flight = [*old, *stage.in_flight]
    stage.settle()
    stage.run(3_000 * MS)
    assert CODEC.decode("increment", cast(bytes, stage.results[new])) == 7


def test_a_session_whose_name_is_given_again_loses_no_call() -> None:
    """Names are too long to meet by chance. But if one did, the call of the older session must end, and not be forgotten."""
    port = RecordingPort(1 << 20, replicas=3, seed=1)
    config = ClusterConfig(tuple(Member("127.0.0.1", 1 + index) for index in range(3)))
    client = AdaptiveClient(port, config)
    ended: dict[str, object] = {}

    def answer(result: bytes) -> None:
        request = cast(Request, port.sent[-1][1])
        client.on_message(0, AdaptiveReply(0, 1, b"", request.session, request.number, result, COMMITTED, False))

    name = msgspec.msgpack.encode((1 << 62) + Random(1).getrandbits(62))
    client.call(b"first", 0, lambda outcome: ended.update(first=outcome))
    answer(name)
    answer(b"done")
    client.call(b"A", 0, lambda outcome: ended.update(A=outcome))
    client.call(b"B", 0, lambda outcome: ended.update(B=outcome))
    answer(name)
    answer(b"done B")
    assert ended["first"] == b"done"
    assert isinstance(ended["A"], ClusterReset)
    assert ended["B"] == b"done B"
    client.check_invariants()


def test_views_of_an_earlier_life_are_forgotten() -> None:
    """A session is being opened when the cluster starts anew. Its first answers are of view 7; those of the new life are of view 0."""
    port = RecordingPort(1 << 20, replicas=3, seed=1)
    client = AdaptiveClient(port, ClusterConfig(tuple(Member("127.0.0.1", 1 + index) for index in range(3))))
    ended: dict[str, object] = {}

    def last_request() -> Request:
        return next(message for _, message in reversed(port.sent) if isinstance(message, Request))

    def answer(request: Request, result: bytes, view: int, source: int, level: int) -> None:
        client.on_message(source, AdaptiveReply(view, 1, b"", request.session, request.number, result, level, False))

    name = msgspec.msgpack.encode((1 << 62) + 5)
    client.call(b"first", 0, lambda outcome: ended.update(first=outcome))
    answer(last_request(), name, 7, 0, COMMITTED)
    first = last_request()
    client.call(b"second", 0, lambda outcome: ended.update(second=outcome))
    opening = last_request()
    answer(opening, name, 7, 1, MATCHED)
    for replica in (0, 1):
        client.on_message(replica, cast(Any, OtherLife(first.session, first.number)))
    assert isinstance(ended["first"], ClusterReset)
    for replica in (0, 1):
        answer(opening, msgspec.msgpack.encode((1 << 62) + 6), 0, replica, MATCHED)
    answer(last_request(), b"done", 0, 0, COMMITTED)
    assert ended["second"] == b"done"
