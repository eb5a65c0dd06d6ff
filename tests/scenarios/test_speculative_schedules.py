"""Schedules of single steps that broke earlier versions of the rules, or other implementations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from acting import MS, open_sessions, operations, stage_of

from stretto.core.errors import RequestTimeout
from stretto.core.node import Client
from stretto.protocols.speculative.messages import SpeculativeReply, Sync
from stretto.replication.group import Status
from stretto.replication.messages import Commit, DoViewChange, Forward, Request, StartView, StartViewChange
from stretto.testing.stage import InFlight


def test_empty_view() -> None:
    """A view in which nothing is appended still counts as the last normal view of the replicas that entered it."""
    stage, (r0, r1, r2) = stage_of(3)
    one, two = open_sessions(stage, 2)
    first = r0.state.log.last + 1
    stage.call(one, b"b")
    stage.deliver(Request, to=0)
    stage.lose(Request)
    accepted = stage.call(two, b"a")
    stage.deliver(Request, to=1)
    stage.deliver(Request, to=2)
    stage.lose()

    # r1 and r2 start view 1; r1 tells the client that `a` is committed, and nobody else.
    for replica in (r1, r2):
        replica.view_change.start(1, "scenario")
    stage.lose(to=0)
    stage.deliver(StartViewChange)
    stage.deliver(DoViewChange)
    stage.deliver(StartView, to=2)
    stage.lose(to=0)
    stage.deliver(to=1)
    assert r1.state.committed == first
    stage.lose(Commit)
    stage.deliver(SpeculativeReply, source=1)
    assert stage.results[accepted] == b""
    stage.lose()

    # r1 falls silent; r2 and r0, which never saw view 1, start view 2.
    stage.crash(1)
    r2.view_change.start(2, "scenario")
    stage.settle()
    assert r2.view == r0.view == 2
    assert operations(r2, first) == [b"a"]
    assert operations(r0, first) == [b"a", b"b"]


def test_old_view_entered_from_below() -> None:
    """A replica that has voted for a view does not enter an older one."""
    stage, (r0, r1, _) = stage_of(3)
    open_sessions(stage, 1)
    r1.view_change.start(1, "scenario")
    stage.deliver(StartViewChange)
    stage.deliver(StartViewChange)
    stage.deliver(DoViewChange)
    (to_r0,) = stage.waiting(StartView, to=0)
    assert isinstance(to_r0.message, StartView)
    assert to_r0.message.view == 1
    r0.view_change.start(2, "scenario")
    stage.deliver_one(to_r0)
    assert r0.group.status is Status.VIEW_CHANGE
    assert r0.view == 2
    assert r0.group.ignored["of an older view"] >= 1


def test_start_view_does_not_grow() -> None:
    """A view's StartView stays the same, however much the log has grown since."""
    stage, (r0, r1, r2) = stage_of(3)
    (client,) = open_sessions(stage, 1)
    r1.view_change.start(1, "scenario")
    stage.lose(to=2)
    stage.settle(lambda flight: flight.destination != 2)
    frozen = r1.view_change.start_view
    stage.call(client, b"later")
    stage.settle(lambda flight: flight.destination != 2)
    assert r1.state.log.last == r0.state.log.last > r1.view_change.start_last
    r1.group.send_to_peers(
        Sync(r1.group.incarnations, 1, r1.state.log.last, r1.state.committed, r1.state.log.hash_at(r1.state.committed), None)
    )
    stage.deliver(Sync, to=2)
    stage.deliver(source=2, to=1)
    (resent,) = stage.waiting(StartView, to=2)
    assert resent.message == frozen
    stage.deliver_one(resent)
    assert r2.view == 1
    assert r2.state.log.last == r1.view_change.start_last


def test_superseded_operation() -> None:
    """The client's call timed out with the request at only one follower, and its next request is committed: the old one must not follow
    it."""
    stage, replicas = stage_of(5)
    (client,) = open_sessions(stage, 1)
    first = replicas[0].state.log.last + 1
    given_up = stage.call(client, b"given up")
    stage.deliver(Request, to=4)
    stage.run(6_000 * MS, lambda flight: not isinstance(flight.message, Request | Forward))
    assert isinstance(stage.results[given_up], RequestTimeout)
    done = stage.call(client, b"next")
    stage.lose(Request, to=4)
    stage.run(200 * MS)
    assert stage.results[done] == b""
    for replica in replicas:
        assert operations(replica, first) == [b"next"]
        assert replica.state.committed == replica.state.log.last
        assert replica.view_change.reconciliations == 0
    assert replicas[4].transfer.repairs == 1


def test_repair_under_load() -> None:
    """One replica loses one packet while 32 sessions keep the cluster busy. It repairs its log once, without a view change."""
    stage, replicas = stage_of(5)
    clients = open_sessions(stage, 32)
    answered = 0

    def again(client: Client) -> Callable[[object], None]:
        def done(outcome: object) -> None:
            nonlocal answered
            assert outcome == b""
            answered += 1
            if answered < 4_000:
                client.call(b"x", stage.now_ns, again(client))

        return done

    lost: list[InFlight] = []
    for client in clients:
        client.call(b"x", stage.now_ns, again(client))
    while answered < 4_000:
        # A tenth of a millisecond for 32 messages: about 20,000 operations a second, and a synchronisation for every 200 of them.
        if answered >= 1_000 and not lost:
            lost = stage.waiting(Request, to=3)[:1]
        for flight in stage.in_flight[:32]:
            if flight in lost:
                stage.in_flight.remove(flight)
            else:
                stage.deliver_one(flight)
        stage.now_ns += MS // 10
        for address, port in stage.ports.items():
            for name in [name for name, due in port.timers.items() if due <= stage.now_ns]:
                stage.fire(address, name)
    stage.run(50 * MS)
    assert answered >= 4_000
    assert [replica.transfer.repairs for replica in replicas] == [0, 0, 0, 1, 0]
    assert {replica.view_change.reconciliations for replica in replicas} == {0}
    assert len({replica.state.log.last_hash for replica in replicas}) == 1


@pytest.mark.parametrize("n", [3, 5])
def test_a_follower_that_receives_nothing(n: int) -> None:
    """A follower that sends but receives nothing must neither stop the others from serving nor force a view change."""
    stage, replicas = stage_of(n)
    clients = open_sessions(stage, 4)

    def heard(flight: InFlight) -> bool:
        return flight.destination != n - 1

    for _ in range(20):
        handles = [stage.call(client, b"x") for client in clients]
        stage.run(100 * MS, heard)
        assert all(stage.results.get(handle) == b"" for handle in handles)
    assert {replica.view_change.view_changes for replica in replicas[:-1]} == {0}
    stage.run(500 * MS)
    assert len({replica.state.log.last_hash for replica in replicas}) == 1


@pytest.mark.parametrize("n", [3, 5])
def test_a_leader_that_receives_nothing(n: int) -> None:
    """A leader that sends but receives nothing must stop sending signs of life, and be replaced."""
    stage, replicas = stage_of(n)
    clients = open_sessions(stage, 4)

    def heard(flight: InFlight) -> bool:
        return flight.destination != 0

    handles = [stage.call(client, b"x") for client in clients]
    stage.run(1_000 * MS, heard)
    assert all(stage.results.get(handle) == b"" for handle in handles)
    assert {replica.leader for replica in replicas[1:]} == {1}
    stage.run(500 * MS)
    assert len({replica.state.log.last_hash for replica in replicas}) == 1


@pytest.mark.parametrize("n", [3, 5, 7])
def test_a_dead_next_leader_costs_one_timeout(n: int) -> None:
    """If the leader and the next leader crash at once (at most f replicas), the one after them takes over."""
    stage, replicas = stage_of(n)
    (client,) = open_sessions(stage, 1)
    dead = [0, 1] if n > 3 else [0]
    for index in dead:
        stage.crash(index)
    handle = stage.call(client, b"x")
    stage.run(400 * MS)
    assert stage.results[handle] == b""
    assert replicas[-1].leader == len(dead)


def test_a_leader_that_differs_from_the_superquorum_repairs_itself() -> None:
    """Only the leader missed a request. It commits the log on which the others agree, not its own."""
    stage, replicas = stage_of(5)
    clients = open_sessions(stage, 3)
    handles = [stage.call(client, b"%d" % number) for number, client in enumerate(clients)]
    (missed,) = [
        flight for flight in stage.waiting(Request, to=0) if isinstance(flight.message, Request) and flight.message.operation == b"1"
    ]
    stage.in_flight.remove(missed)
    stage.settle()
    late = stage.call(clients[0], b"late")
    stage.run(100 * MS)
    assert all(stage.results[handle] == b"" for handle in [*handles, late])
    assert replicas[0].transfer.repairs == 1
    assert {replica.view_change.reconciliations for replica in replicas} == {0}
    assert len({replica.state.log.last_hash for replica in replicas}) == 1
    assert replicas[0].state.committed == replicas[0].state.log.last


def test_conflict_is_resolved_long_before_any_timeout() -> None:
    """Two requests arrive in two orders. The client reports the conflict, and the leader reconciles at once."""
    stage, (r0, r1, r2) = stage_of(3)
    one, two = open_sessions(stage, 2)
    handles = [stage.call(one, b"a"), stage.call(two, b"b")]
    stage.now_ns += 5 * MS
    a_to_r2, b_to_r2 = stage.waiting(Request, to=2)
    stage.deliver(Request, to=0)
    stage.deliver(Request, to=1)
    stage.deliver_one(b_to_r2)
    stage.deliver_one(a_to_r2)
    before = stage.now_ns
    stage.settle()
    assert stage.now_ns == before
    assert all(stage.results[handle] == b"" for handle in handles)
    assert r0.view_change.reconciliations == r1.view_change.reconciliations == r2.view_change.reconciliations == 1
    assert r0.view == 3
    assert r0.leader == 0
    assert r2.state.rolled_back_operations == 2
