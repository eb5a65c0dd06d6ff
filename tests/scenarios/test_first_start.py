"""A first start happens once: a replica that has lived before is never taken for new, whatever it hears and whatever it misses."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from acting import MS, open_sessions, operations

from stretto.apps.kv import KeyValueStore
from stretto.core.state_machine import NullMachine
from stretto.protocols.adaptive import ADAPTIVE
from stretto.protocols.adaptive.messages import AdaptiveReply
from stretto.protocols.adaptive.replica import AdaptiveReplica
from stretto.replication.group import Status
from stretto.replication.messages import (
    Bootstrap,
    BootstrapReply,
    GetIncarnations,
    IncarnationsReply,
    Prepare,
    Recover,
    Request,
    StartView,
)
from stretto.services.service import ServiceCodec, ServiceMachine
from stretto.testing.stage import InFlight, Stage, StagePort

Bits = Callable[[int], int]


def most(bits: int) -> int:
    """The greatest random number: this start has the greater incarnation of two."""
    return (1 << bits) - 1


def least(bits: int) -> int:
    """The least random number: this start has the lesser incarnation of two."""
    return 0


def replicas_of(stage: Stage) -> list[AdaptiveReplica]:
    return cast(list[AdaptiveReplica], stage.replicas)


def bootstrap(stage: Stage, index: int, monkeypatch: pytest.MonkeyPatch, bits: Bits) -> AdaptiveReplica:
    """Start a replica as if for the first time; these are its random bits."""
    make_port = Stage._port

    def port(stage: Stage, address: int) -> StagePort:
        made = make_port(stage, address)
        monkeypatch.setattr(made.random, "getrandbits", bits)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "_port", port)
        return cast(AdaptiveReplica, stage.bootstrap(index))


def mistaken_start(stage: Stage, monkeypatch: pytest.MonkeyPatch, bits: Bits, ticks: int = 12) -> AdaptiveReplica:
    """r2 has lost its memory, is started as if for the first time, and is deaf for its first ticks. What it says last is in flight."""
    stage.crash(2)
    stage.lose()
    r2 = bootstrap(stage, 2, monkeypatch, bits)
    for _ in range(ticks):
        stage.lose()
        stage.fire(2, "startup")
    return r2


def is_taken_for_new(stage: Stage, replica: AdaptiveReplica) -> bool:
    return replica in stage.nodes.values() and replica.group.in_service and replica.state.log.last == 0


def without(*addresses: int) -> Callable[[InFlight], bool]:
    return lambda flight: not {flight.source, flight.destination} & set(addresses)


@pytest.mark.parametrize("bits", [most, least])
@pytest.mark.parametrize("last", [Recover, Bootstrap])
def test_a_mistaken_start_is_refused_whatever_comes_first(monkeypatch: pytest.MonkeyPatch, bits: Bits, last: type) -> None:
    """It also asks to recover, since it has waited for long. That must not teach its number to those who then say that they know it."""
    stage = Stage(ADAPTIVE, 3, NullMachine)
    open_sessions(stage, 2)
    r2 = mistaken_start(stage, monkeypatch, bits)
    assert stage.waiting(Recover, source=2)
    assert stage.waiting(Bootstrap, source=2)
    for kind in (Recover, Bootstrap) if last is Bootstrap else (Bootstrap, Recover):
        stage.deliver(kind, source=2)
    stage.deliver(BootstrapReply, to=2)
    assert not is_taken_for_new(stage, r2)
    assert 2 not in stage.nodes
    assert "knows replica 2 from an earlier start" in stage.reports[-1][2]["reason"]


@pytest.mark.parametrize("bits", [most, least])
def test_a_start_view_does_not_teach_a_mistaken_start_a_number(monkeypatch: pytest.MonkeyPatch, bits: Bits) -> None:
    stage = Stage(ADAPTIVE, 3, NullMachine)
    open_sessions(stage, 2)
    stage.crash(2)
    stage.lose()
    r2 = bootstrap(stage, 2, monkeypatch, bits)
    stage.lose()
    first = r2.group.incarnation
    for replica in replicas_of(stage)[:2]:
        replica.view_change.start(1, "scenario")
    stage.settle(lambda flight: without(2)(flight) or isinstance(flight.message, StartView))
    assert r2.group.incarnation == first
    for _ in range(12):
        stage.lose()
        stage.fire(2, "startup")
    stage.deliver(source=2)
    stage.deliver(BootstrapReply, to=2)
    assert not is_taken_for_new(stage, r2)


@pytest.mark.parametrize("bits", [most, least])
def test_what_has_completed_survives_a_mistaken_start(monkeypatch: pytest.MonkeyPatch, bits: Bits) -> None:
    codec = ServiceCodec(KeyValueStore)
    stage = Stage(ADAPTIVE, 3, lambda: ServiceMachine(KeyValueStore))
    (client,) = open_sessions(stage, 1)
    r0 = replicas_of(stage)[0]
    put = stage.call(client, codec.encode("put", (b"k", b"v")))
    stage.deliver(Request, to=0)
    stage.deliver(Request, to=2)
    stage.lose(Request)
    r0.slow_path.need()
    stage.deliver(Prepare, to=2)
    stage.deliver(AdaptiveReply)
    codec.decode("put", cast(bytes, stage.results[put]))  # r0 and r2 have it; r1 lacks it
    mistaken_start(stage, monkeypatch, bits)
    stage.deliver(source=2)
    stage.deliver(BootstrapReply, to=2)
    stage.lose()
    stage.run(2_000 * MS, without(0))  # r0 is cut off, and has forgotten nothing
    get = stage.call(client, codec.encode("get", (b"k",)))
    stage.run(2_000 * MS, without(0))
    assert get not in stage.results or codec.decode("get", cast(bytes, stage.results[get])) == b"v"


@pytest.mark.parametrize("bits", [most, least])
def test_a_correct_start_after_the_mistake_is_not_taken_for_new(monkeypatch: pytest.MonkeyPatch, bits: Bits) -> None:
    """With a disk: the mistake is recorded there. The replica was ended, and is started again as it should be, and is deaf again."""
    stage = Stage(ADAPTIVE, 3, NullMachine, durable=True)
    open_sessions(stage, 2)
    stage.ports[2].records = []
    mistaken_start(stage, monkeypatch, bits)
    stage.crash(2)
    stage.lose()
    r2 = cast(AdaptiveReplica, stage.restart(2))
    for _ in range(12):
        stage.lose()
        stage.fire(2, "startup")
    stage.deliver(source=2)
    stage.deliver(BootstrapReply, to=2)
    assert not is_taken_for_new(stage, r2)
    stage.run(200 * MS)
    assert r2.group.in_service
    assert operations(r2, 1) == operations(replicas_of(stage)[0], 1)


@pytest.mark.parametrize("bits", [most, least])
def test_one_who_recovers_does_not_believe_a_mistaken_start(monkeypatch: pytest.MonkeyPatch, bits: Bits) -> None:
    """Of five, r3 has lost its memory and is started as if for the first time; r2 has lost its own and recovers. Both are within f."""
    stage = Stage(ADAPTIVE, 5, NullMachine)
    open_sessions(stage, 1)
    for index in (2, 3):
        stage.crash(index)
    stage.lose()
    first = replicas_of(stage)[0].group.first
    bootstrap(stage, 3, monkeypatch, bits)
    stage.lose()
    r2 = cast(AdaptiveReplica, stage.restart(2))
    stage.deliver(GetIncarnations, source=2, to=3)
    stage.deliver(IncarnationsReply)
    stage.deliver(GetIncarnations, source=2, to=0)
    stage.deliver(GetIncarnations, source=2, to=1)
    stage.deliver(IncarnationsReply)
    assert r2.group.status is Status.LOST_STATE, "two of its three answers count"
    stage.deliver(GetIncarnations, source=2, to=4)
    stage.deliver(IncarnationsReply)
    assert (r2.group.status, r2.group.first) == (Status.RECOVERING, first)
    stage.run(200 * MS)
    assert r2.group.in_service


def started_twice() -> Stage:
    """A first start in which r2 crashes and is started again as if for the first time. r0 knows its first start, r1 its second."""
    stage = Stage(ADAPTIVE, 3, NullMachine)
    for index in range(3):
        stage.crash(index)
    stage.lose()
    for index in range(3):
        stage.bootstrap(index)
    stage.deliver(Bootstrap, source=0, to=2)
    stage.deliver(BootstrapReply, to=0)
    stage.crash(2)
    stage.lose()
    stage.bootstrap(2)
    stage.fire(1, "startup")
    stage.deliver(Bootstrap, source=1, to=2)
    stage.deliver(BootstrapReply, to=1)
    stage.lose(source=0), stage.lose(source=1)
    return stage


def test_a_replica_that_is_started_twice_recovers() -> None:
    stage = started_twice()
    stage.run(50 * MS)
    assert set(stage.nodes) == {0, 1}, "the second start is none: r0 and r1 go by the first one"
    stage.restart(2)
    stage.run(200 * MS)
    assert [replica.metrics()["status"] for replica in stage.replicas] == ["normal"] * 3
    assert len({replica.group.first for replica in replicas_of(stage)}) == 1


def test_two_first_starts_that_have_both_been_said_end_all() -> None:
    """r0 and r1 hear of each other at the same time. Each has said all first incarnations then, with another one of r2."""
    stage = started_twice()
    for index in range(2):
        stage.fire(index, "startup")
    stage.lose(to=2)
    stage.deliver(Bootstrap)
    stage.deliver(BootstrapReply)
    r0, r1, _ = replicas_of(stage)
    assert r0.group.life != r1.group.life != b""
    stage.run(50 * MS)
    assert not any(replica.group.in_service for replica in (r0, r1))
    reasons = [details["reason"] for _, event, details in stage.reports if event == "stopped"]
    assert any("end all replicas, and start all of them anew with --bootstrap" in reason for reason in reasons)


def test_packets_of_an_earlier_life_teach_nothing() -> None:
    """The cluster was ended and is started anew, empty, and the network still has packets of its earlier life."""
    stage = Stage(ADAPTIVE, 3, NullMachine)
    (client,) = open_sessions(stage, 1)
    r0, *_ = replicas_of(stage)
    stage.call(client, b"old")
    stage.deliver(Request)
    r0.slow_path.need()
    r0.leader_log.send_heartbeat()
    for replica in replicas_of(stage)[1:]:
        replica.view_change.start_next("scenario")
    old = [flight for flight in stage.in_flight if flight.source < 3]
    life = r0.group.life
    for index in range(3):
        stage.crash(index)
    stage.lose()
    for index in range(3):
        stage.bootstrap(index)
    asked = stage.waiting(Bootstrap)
    for flight in asked:  # one answer to each is late
        stage.deliver_one(flight)
    late = stage.waiting(BootstrapReply)
    stage.settle()
    assert all(replica.group.in_service and replica.group.life != life for replica in replicas_of(stage))
    known = replicas_of(stage)[0].group.incarnations
    for flight in [*old, *asked, *late]:
        stage.in_flight.append(flight)
        stage.deliver_one(flight)
    stage.settle()
    stage.run(100 * MS)
    assert [replica.group.incarnations for replica in replicas_of(stage)] == [known] * 3
    assert [replica.view for replica in replicas_of(stage)] == [0] * 3


def test_the_first_view_readmits_no_second_life() -> None:
    """r0 and r2 are in service and have completed a call. r2 loses its memory. r1, who enters view 0 late, must not go on with that r2."""
    stage = Stage(ADAPTIVE, 3, NullMachine)
    for index in range(3):
        stage.crash(index)
    stage.lose()
    for index in range(3):
        stage.bootstrap(index)
    stage.run(50 * MS, lambda flight: not (isinstance(flight.message, BootstrapReply) and (flight.source, flight.destination) == (2, 1)))
    assert [replica.metrics()["status"] for replica in stage.replicas] == ["normal", "bootstrapping", "normal"]
    client = stage.client()
    done = stage.call(client, b"a")
    stage.run(60 * MS, without(1))
    assert stage.results[done] == b"", "r0, the leader, and r2 have completed it"
    stage.crash(2)
    stage.lose()
    stage.restart(2)
    stage.deliver(GetIncarnations, source=2)
    stage.deliver(IncarnationsReply, to=2)
    stage.lose()
    stage.fire(1, "startup")
    stage.deliver(Bootstrap, source=1, to=2)
    stage.deliver(BootstrapReply, source=2, to=1)
    assert stage.replicas[1].metrics()["status"] == "normal"
    stage.lose()
    stage.run(1_000 * MS, without(0))  # r0 is cut off, and has forgotten nothing
    lost = stage.call(client, b"b")
    stage.run(1_000 * MS, without(0))
    r1 = replicas_of(stage)[1]
    assert lost not in stage.results or b"a" in operations(r1, 1)
    stage.run(3_000 * MS)
    assert all(b"a" in operations(replica, 1) for replica in replicas_of(stage))
