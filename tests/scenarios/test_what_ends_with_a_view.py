"""What a replica has heard in one view says nothing in the next: no other test fails if it is kept."""

from __future__ import annotations

from typing import cast

import pytest
from acting import MS, open_sessions, operations

from stretto.core.node import Client
from stretto.core.state_machine import NullMachine
from stretto.protocols.adaptive import ADAPTIVE
from stretto.protocols.adaptive.replica import AdaptiveReplica
from stretto.protocols.fastpaxos import FASTPAXOS
from stretto.protocols.fastpaxos.fast_path import Accepted
from stretto.protocols.fastpaxos.replica import FastPaxosReplica
from stretto.replication import leader_log
from stretto.replication.messages import Heartbeat, Prepare, PrepareOk, Request
from stretto.testing.stage import InFlight, Stage


def begin(clients: int) -> tuple[Stage, list[AdaptiveReplica], list[Client]]:
    stage = Stage(ADAPTIVE, 3, NullMachine)
    opened = open_sessions(stage, clients)
    return stage, cast(list[AdaptiveReplica], stage.replicas), opened


def without_r0(flight: InFlight) -> bool:
    return 0 not in (flight.source, flight.destination)


def change_view(stage: Stage, replicas: list[AdaptiveReplica]) -> None:
    """r1 and r2 go on without r0, in view 1, which r1 leads."""
    stage.lose()
    for replica in replicas[1:]:
        replica.view_change.start(1, "scenario")
    stage.settle(without_r0)
    assert [replica.view for replica in replicas[1:]] == [1, 1]


def test_a_prepare_that_came_too_early_ends_with_its_view() -> None:
    """r2 has the second of two Prepares when the view ends. In the next view, another entry stands before its place."""
    stage, replicas, (one, two, three) = begin(3)
    r0, r1, r2 = replicas
    r0.slow_path.need()
    stage.settle()
    first = r0.state.log.last + 1
    for client, operation in ((one, b"x"), (two, b"y")):
        stage.call(client, operation)
        stage.deliver(Request, to=0)
        stage.lose(Request)
    _, second = stage.waiting(Prepare, to=2)
    assert cast(Prepare, second.message).first == first + 1
    stage.deliver_one(second)
    assert r2.leader_log.out_of_order
    change_view(stage, replicas)
    assert r1.state.log.last == first - 1
    r1.slow_path.need()
    stage.settle(without_r0)
    stage.call(three, b"z")
    stage.deliver(Request, to=1)
    stage.lose(Request)
    stage.deliver(Prepare, to=2)
    assert operations(r2, first) == operations(r1, first) == [b"z"]
    assert r2.leader_log.matched == first


def test_what_a_leader_announced_ends_with_its_view() -> None:
    """r0 has announced a position with its hash, which r2 lacks. In the next view r2 appends just that, and r1 does not have it."""
    stage, replicas, (one,) = begin(1)
    r0, r1, r2 = replicas
    first = r0.state.log.last + 1
    stage.call(one, b"x")
    (late,) = stage.waiting(Request, to=2)
    stage.deliver(Request, to=0)
    stage.lose()
    r0.leader_log.expect_all()
    r0.leader_log.send_heartbeat()
    stage.deliver(Heartbeat, to=2)
    assert r2.leader_log.announced[0] == first
    change_view(stage, replicas)
    assert r1.state.log.last == first - 1
    r2.on_message(late.source, late.message)
    assert operations(r2, first) == [b"x"]
    stage.fire(1, "heartbeat")
    stage.deliver(Heartbeat, to=2)
    if "gap" in stage.ports[2].timers:
        stage.fire(2, "gap")
    assert r2.leader_log.matched == first - 1


def test_an_acknowledgement_of_entries_that_the_leader_lacks_is_ignored() -> None:
    _, (r0, *_), _ = begin(1)
    last = r0.state.log.last
    for follower in (1, 2):
        r0.on_message(follower, PrepareOk(r0.group.incarnations, 0, last + 1, 0, False))
    assert r0.group.ignored["acknowledges entries that are not here"] == 2
    assert r0.state.committed <= last
    r0.check_invariants()


def test_no_more_early_prepares_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_log, "MAX_OUT_OF_ORDER", 2)
    _, (_, _, r2), _ = begin(1)
    for first in range(100, 110):
        r2.on_message(0, Prepare(r2.group.incarnations, 0, first, b"?" * 16, [], 0, True))
    assert sorted(r2.leader_log.out_of_order) == [100, 101]


def five_of_fast_paxos() -> tuple[Stage, list[FastPaxosReplica], list[Client]]:
    stage = Stage(FASTPAXOS, 5, NullMachine)
    clients = open_sessions(stage, 3)
    return stage, cast(list[FastPaxosReplica], stage.replicas), clients


def lead_again(stage: Stage, replicas: list[FastPaxosReplica]) -> int:
    """r0 leads view 5, without r4; a view between the two dropped what only r0 and r4 had. Returns the last position of its log."""
    stage.lose()
    for index in (1, 2, 3):
        replicas[index].view_change.start(1, "scenario")
    stage.settle(lambda flight: not {0, 4} & {flight.source, flight.destination})
    for replica in replicas[:3]:
        replica.view_change.start(5, "scenario")
    stage.settle(lambda flight: 4 not in (flight.source, flight.destination))
    stage.run(MS, lambda flight: 4 not in (flight.source, flight.destination))
    assert [replica.view for replica in replicas[:4]] == [5, 5, 5, 5]
    return replicas[0].state.log.last


def accept(replica: FastPaxosReplica, source: int, position: int, summary: bytes) -> None:
    log = replica.state.log
    outcome = replica.state.outcome_at(position) if log.matches(position, summary) else 0
    replica.on_message(source, Accepted(replica.group.incarnations, replica.view, position, summary, outcome))


def test_what_a_follower_accepted_in_an_earlier_view_does_not_count_in_the_next() -> None:
    """r4 has accepted r0's entries up to a position, and in view 5 it has others there. Three of five are no fast quorum."""
    stage, replicas, clients = five_of_fast_paxos()
    r0, *_, r4 = replicas
    for client in clients:
        stage.call(client, b"old")
        stage.deliver(Request, to=0)
        stage.deliver(Request, to=4)
        stage.lose(Request)
    stage.deliver(Accepted, source=4)
    accepted = r0.fast_path.agreed[4]
    assert lead_again(stage, replicas) >= accepted > r0.state.committed
    accept(r0, 4, accepted + 5, b"?" * 16)  # r4 has come to view 5, and its log is another one
    for follower in (1, 2):
        accept(r0, follower, accepted, r0.state.log.hash_at(accepted))
    assert r4.view == 0
    assert r0.state.committed < accepted


def test_what_a_follower_accepted_ahead_of_an_earlier_leader_says_nothing_about_the_next_log() -> None:
    stage, replicas, (one, *_) = five_of_fast_paxos()
    r0, *_, r4 = replicas
    first = r0.state.log.last + 1
    stage.call(one, b"x")
    (late,) = stage.waiting(Request, to=0)
    stage.deliver(Request, to=4)
    stage.deliver(Accepted, source=4)
    assert r0.fast_path.ahead[4]
    assert lead_again(stage, replicas) == first - 1
    accept(r0, 4, first + 5, b"?" * 16)  # r4 has come to view 5, and its log is another one
    r0.on_message(late.source, late.message)
    for follower in (1, 2):
        accept(r0, follower, first, r0.state.log.hash_at(first))
    assert r4.view == 0
    assert r0.state.committed == first - 1
