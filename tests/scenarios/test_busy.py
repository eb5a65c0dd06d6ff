"""A replica that is busy for long is not gone: its host says so, and time in which a replica did not run is no silence of others."""

from __future__ import annotations

from typing import cast

import pytest
from acting import MS, open_sessions

from stretto.core.node import Busy
from stretto.core.state_machine import NullMachine
from stretto.protocols.multipaxos import MULTIPAXOS
from stretto.replication.group import Status
from stretto.replication.messages import DoViewChange, Suspect
from stretto.replication.replica import Replica
from stretto.testing.stage import InFlight, Stage, StagePort


def stage_of() -> tuple[Stage, list[Replica]]:
    stage = Stage(MULTIPAXOS, 3, NullMachine)
    open_sessions(stage, 1)
    return stage, cast(list[Replica], stage.replicas)


def say_busy(replicas: list[Replica], source: int, for_ms: int) -> None:
    for replica in replicas:
        if replica.group.index != source:
            replica.on_message(source, Busy(for_ms))


def test_a_leader_whose_host_says_that_it_is_busy_is_not_suspected() -> None:
    stage, replicas = stage_of()
    for step in range(1, 40):
        say_busy(replicas, 0, 20 * step)
        stage.run(20 * MS, lambda flight: flight.source != 0)
    assert {replica.view for replica in replicas} == {0}
    assert not [flight for flight in stage.in_flight if isinstance(flight.message, Suspect)]


def test_one_that_is_busy_for_longer_than_an_operation_may_take_is_suspected() -> None:
    stage, replicas = stage_of()
    for _ in range(20):
        say_busy(replicas, 0, 10_001)
        stage.run(20 * MS, lambda flight: 0 not in (flight.source, flight.destination))
    assert {replica.view for replica in replicas[1:]} == {1}
    assert replicas[1].group.ignored["busy for longer than max_operation_ms"] > 0


def test_a_busy_majority_does_not_make_the_leader_suspect_itself() -> None:
    stage, replicas = stage_of()

    def goes(flight: InFlight) -> bool:
        return flight.source == 0 and not isinstance(flight.message, Suspect)

    for step in range(1, 20):
        for follower in (1, 2):
            replicas[0].on_message(follower, Busy(20 * step))
        stage.run(20 * MS, goes)
    assert 0 not in replicas[0].detector.suspects


def test_time_in_which_a_replica_did_not_run_is_no_silence_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """r1 stood still for a second; what the leader has sent meanwhile is not read yet when its timer fires."""
    late = {1: 0}
    monkeypatch.setattr(StagePort, "late_ns", property(lambda port: late.get(port.address, 0)))
    stage, replicas = stage_of()
    r1 = replicas[1]
    for name, standing_ns in (("leader", 1_000 * MS), ("leader", 0)):
        late[1] = standing_ns
        stage.now_ns += standing_ns
        stage.fire(1, name)
        assert 1 not in r1.detector.suspects
    late[1] = 0
    stage.now_ns += 100 * MS
    stage.fire(1, "leader")
    assert 1 in r1.detector.suspects


def test_a_leader_that_stood_still_does_not_suspect_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not read yet what the others have sent."""
    late = {0: 1_000 * MS}
    monkeypatch.setattr(StagePort, "late_ns", property(lambda port: late.get(port.address, 0)))
    stage, replicas = stage_of()
    stage.now_ns += 1_000 * MS
    stage.fire(0, "heartbeat")
    assert 0 not in replicas[0].detector.suspects


def test_a_view_waits_for_those_that_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    late = {1: 0}
    monkeypatch.setattr(StagePort, "late_ns", property(lambda port: late.get(port.address, 0)))
    stage, replicas = stage_of()
    _, r1, r2 = replicas
    r1.view_change.suspect_leader()

    def goes(flight: InFlight) -> bool:
        return 0 not in (flight.source, flight.destination) and not isinstance(flight.message, DoViewChange)

    stage.settle(goes)
    assert (r1.group.status, r1.view) == (Status.VIEW_CHANGE, 1)
    for step in range(1, 20):
        r1.on_message(2, Busy(20 * step))
        r2.on_message(1, Busy(20 * step))
        stage.run(20 * MS, goes)
    assert (r1.view, r2.view) == (1, 1)
    late[1] = 300 * MS
    stage.fire(1, "escalate")
    assert r1.view == 1
    late[1] = 0
    stage.fire(1, "escalate")
    assert r1.view == 2


def test_views_that_commit_nothing_get_more_and_more_time() -> None:
    """It is not enough that views are entered."""
    stage, replicas = stage_of()
    _, r1, _ = replicas

    r1.view_change.suspect_leader()
    stage.run(20 * MS)
    r1.view_change.attempts = 3
    r1.view_change.suspect_leader()
    began = stage.now_ns
    assert stage.ports[1].timers["escalate"] - began == 50 * MS << 3
    stage.run(50 * MS)
    assert r1.group.status is Status.NORMAL
    assert r1.view_change.attempts == 3
    open_sessions(stage, 1)
    r1.view_change.suspect_leader()
    assert r1.view_change.attempts == 0
