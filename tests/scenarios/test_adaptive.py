"""Schedules of Adaptive Speculative Paxos: the fast path, the slow path within the view, and what survives a leader."""

from __future__ import annotations

from typing import cast

import pytest
from acting import MS, open_sessions, operations

from stretto.core.state_machine import NullMachine
from stretto.protocols.adaptive import ADAPTIVE
from stretto.protocols.adaptive.messages import MATCHED, AdaptiveReply, Conflict
from stretto.protocols.adaptive.replica import AdaptiveReplica
from stretto.replication.group import Status
from stretto.replication.messages import EntriesCompacted, Heartbeat, Prepare, PrepareOk, Request, StartView, Suspect
from stretto.testing.stage import Stage


def stage_of(n: int, *, durable: bool = False) -> tuple[Stage, list[AdaptiveReplica]]:
    """A stage with `n` replicas, and these."""
    stage = Stage(ADAPTIVE, n, NullMachine, durable=durable)
    return stage, cast(list[AdaptiveReplica], stage.replicas)


def logs(replicas: list[AdaptiveReplica], first: int) -> list[list[bytes]]:
    """The operations in the logs from a position on."""
    return [operations(replica, first) for replica in replicas]


def cross(stage: Stage) -> tuple[int, int]:
    """Two calls, [a b] at the leader and [b a] at the others, whose answers arrive. The handles; a Conflict is in flight."""
    one, two = open_sessions(stage, 2)
    handles = stage.call(one, b"a"), stage.call(two, b"b")
    requests = stage.waiting(Request)
    for flight in [*requests[: stage.config.n], *requests[stage.config.n :]]:
        if flight.destination == 0:
            stage.deliver_one(flight)
    for flight in reversed(stage.waiting(Request)):
        stage.deliver_one(flight)
    stage.deliver(AdaptiveReply)
    return handles


@pytest.mark.parametrize("n", [3, 5])
def test_two_delays(n: int) -> None:
    stage, replicas = stage_of(n)
    (client,) = open_sessions(stage, 1)
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    stage.deliver(AdaptiveReply)
    assert stage.results[handle] == b""
    assert not any(replica.slow_path.activations for replica in replicas)


def test_a_superquorum_without_the_leader_is_none() -> None:
    stage, _ = stage_of(5)
    (client,) = open_sessions(stage, 1)
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    for source in range(1, 5):
        stage.deliver(AdaptiveReply, source=source)
    assert handle not in stage.results
    stage.deliver(AdaptiveReply, source=0)
    assert stage.results[handle] == b""


@pytest.mark.parametrize("n", [3, 5])
def test_a_conflict_ends_in_the_leaders_log_without_a_view_change(n: int) -> None:
    stage, replicas = stage_of(n)
    handles = cross(stage)
    assert not stage.results.keys() & set(handles)
    first = replicas[0].state.log.last - 1
    stage.deliver(Conflict)
    assert replicas[0].metrics()["slow_path"]
    stage.deliver(Prepare)
    assert logs(replicas, first) == [[b"a", b"b"]] * n
    answers = [cast(AdaptiveReply, flight.message) for flight in stage.waiting(AdaptiveReply)]
    assert {answer.level for answer in answers} == {MATCHED}
    stage.deliver(AdaptiveReply)
    assert all(stage.results[handle] == b"" for handle in handles)
    assert {replica.view for replica in replicas} == {0}


def test_with_one_of_three_followers_dead_only_the_fast_path_is_lost() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.crash(2)
    stage.run(30 * MS)
    assert replicas[0].metrics()["slow_path"]
    for _ in range(20):
        handle = stage.call(client, b"x")
        stage.settle()
        assert stage.results[handle] == b""
    assert {replica.view for replica in replicas[:2]} == {0}


def test_clients_send_only_to_the_leader_while_it_sets_leader_only() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.crash(2)
    stage.run(30 * MS)
    stage.call(client, b"heard of nothing")
    assert len(stage.waiting(Request)) == 3
    stage.settle()
    first = replicas[0].state.log.last + 1
    handle = stage.call(client, b"x")
    assert [flight.destination for flight in stage.waiting(Request)] == [0]
    stage.settle()
    assert stage.results[handle] == b""
    assert logs(replicas[:2], first) == [[b"x"]] * 2
    stage.run(11 * MS)  # a client that has not called for so long has forgotten the flag
    stage.call(client, b"y")
    assert len(stage.waiting(Request)) == 3


@pytest.mark.parametrize("crossed", [False, True])
def test_requests_sent_only_to_the_leader_do_not_count_as_another_order(crossed: bool) -> None:
    """Otherwise the slow path would not end, since clients return to multicasting one by one."""
    stage, replicas = stage_of(3)
    one, two, three = open_sessions(stage, 3)
    replicas[0].slow_path.need()
    stage.call(one, b"x")
    stage.settle()
    stage.run(MS)
    stage.call(one, b"a")
    assert len(stage.waiting(Request)) == 1
    stage.deliver(Request)
    stage.call(two, b"b")
    stage.call(three, b"c")
    requests = stage.waiting(Request)
    at_followers = [flight for flight in requests if flight.destination != 0]
    for flight in [*(flight for flight in requests if flight.destination == 0), *(reversed(at_followers) if crossed else at_followers)]:
        stage.deliver_one(flight)
    stage.deliver(Prepare)
    diverged = [cast(PrepareOk, flight.message).diverged for flight in stage.waiting(PrepareOk)]
    assert diverged
    assert any(diverged) == crossed


def test_clients_multicast_again_before_the_slow_path_ends() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    slow_path = replicas[0].slow_path
    slow_path.need()
    activations = slow_path.activations
    for _ in range(80):
        stage.call(client, b"x")
        if not slow_path.active:
            assert len(stage.waiting(Request)) == 3
        stage.settle()
        stage.run(MS)
    assert not slow_path.active
    assert slow_path.activations == activations


def test_matched_answers_of_followers_complete_a_call_without_the_leaders_answer() -> None:
    stage, _ = stage_of(3)
    handles = cross(stage)
    stage.deliver(Conflict)
    stage.deliver(Prepare)
    assert not stage.results.keys() & set(handles)
    stage.lose(AdaptiveReply, source=0)
    for source in (1, 2):
        stage.deliver(AdaptiveReply, source=source)
    assert all(stage.results[handle] == b"" for handle in handles)


def test_a_retransmitted_request_activates_the_slow_path() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    stage.lose(AdaptiveReply, source=1)
    stage.settle()
    assert handle not in stage.results
    assert not replicas[0].slow_path.active
    stage.run(60 * MS)
    assert stage.results[handle] == b""
    assert replicas[0].slow_path.activations == 1


def test_a_request_that_the_leader_lost_is_forwarded() -> None:
    stage, replicas = stage_of(3)
    one, two, three = open_sessions(stage, 3)
    stage.crash(2)
    stage.run(30 * MS)
    first = replicas[0].state.log.last + 1
    handle = stage.call(one, b"lost")
    stage.lose(Request, to=0)
    for client in (two, three):
        stage.call(client, b"later")
        stage.settle()
    assert logs(replicas[:2], first) == [[b"later", b"later", b"lost"]] * 2
    assert stage.results[handle] == b""


def test_superseded_operation() -> None:
    """(s,1) is only at the followers, (s,2) at the leader. If (s,1) followed (s,2), the session would forget (s,2) and could run it
    twice."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    first = replicas[0].state.log.last + 1
    stage.call(client, b"1")
    older = stage.waiting(Request)
    stage.lose(Request)
    for flight in older[1:]:
        replicas[flight.destination].on_message(flight.source, flight.message)
    request = cast(Request, older[0].message)
    newer = Request(request.client, request.session, request.number + 1, 0, 0, b"2")
    replicas[0].on_message(request.client, newer)
    stage.run(40 * MS, lambda flight: not isinstance(flight.message, Request))
    assert logs(replicas, first) == [[b"2"]] * 3
    for replica in replicas:
        replica.on_message(request.client, newer)
        replica.check_invariants()
    assert logs(replicas, first) == [[b"2"]] * 3


def test_the_fast_path_returns_and_the_quiet_interval_grows_if_that_was_too_soon() -> None:
    stage, replicas = stage_of(3)
    open_sessions(stage, 1)
    slow_path = replicas[0].slow_path
    stage.run(1_000 * MS)

    def active_ms() -> int:
        slow_path.need()
        elapsed = 0
        while slow_path.active:
            stage.run(MS)
            elapsed += 1
        return elapsed

    short, longer = active_ms(), active_ms()
    assert longer >= short + 20  # twice the quiet interval
    stage.run(1_000 * MS)
    assert active_ms() <= short + 1
    assert slow_path.activations == 3


@pytest.mark.parametrize("slow", [True, False])
def test_completed_operations_survive_the_leader(slow: bool) -> None:
    stage, replicas = stage_of(3)
    if slow:
        cross(stage)
        first = replicas[0].state.log.last - 1
        stage.deliver(Conflict)
        stage.deliver(Prepare, to=1)
        stage.deliver(AdaptiveReply)
    else:
        (client,) = open_sessions(stage, 1)
        first = replicas[0].state.log.last + 1
        stage.call(client, b"a")
        stage.deliver(Request)
        stage.deliver(AdaptiveReply)
    assert replicas[1].state.committed < first
    before = operations(replicas[0], first)
    stage.crash(0)
    stage.in_flight = []
    stage.run(500 * MS)
    assert logs(replicas[1:], first) == [before] * 2
    assert replicas[1].view > 0


def test_a_matched_position_survives_a_restart() -> None:
    stage, replicas = stage_of(3, durable=True)
    cross(stage)
    stage.deliver(Conflict)
    stage.deliver(Prepare, to=1)
    stage.deliver(AdaptiveReply)
    matched = replicas[1].matched_in_last_view()
    assert replicas[1].state.committed < matched == replicas[0].state.log.last
    stage.crash(1)
    assert cast(AdaptiveReplica, stage.restart(1)).matched_in_last_view() == matched


def test_a_prepare_ok_of_an_older_view_commits_nothing() -> None:
    stage, replicas = stage_of(3)
    cross(stage)
    stage.deliver(Conflict)
    stage.deliver(Prepare)
    late = stage.waiting(PrepareOk)
    stage.in_flight = []
    for replica in replicas:
        replica.view_change.start(3, "test")
    stage.settle()
    committed = replicas[0].state.committed
    acknowledged = dict(replicas[0].leader_log.acknowledged)
    for flight in late:
        replicas[0].on_message(flight.source, flight.message)
    assert (replicas[0].state.committed, replicas[0].leader_log.acknowledged) == (committed, acknowledged)


def test_entries_that_arrived_meanwhile_are_not_transferred() -> None:
    """A transfer would drop the entries after it, which may have completed with our answer."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.call(client, b"x")
    stage.deliver(Request)
    leader, follower = replicas[0], replicas[1]
    given_up = EntriesCompacted(leader.group.incarnations, 0, leader.state.log.last, leader.state.log.hash_at(leader.state.log.last))
    follower.on_message(0, given_up)
    follower.check_invariants()
    assert follower.state.committed == leader.state.log.last
    assert follower.transfer.repairs == 0
    assert follower.group.accepting


def test_a_follower_that_repairs_its_log_does_not_suspect_a_leader_that_lives() -> None:
    stage, replicas = stage_of(3)
    leader, follower = replicas[0], replicas[1]
    hash_of_another_log = bytes(16)
    follower.on_message(0, EntriesCompacted(leader.group.incarnations, 0, leader.state.log.last + 5, hash_of_another_log))
    assert follower.group.status is Status.REPAIRING
    stage.in_flight = []
    for _ in range(10):
        stage.fire(0, "heartbeat")
        stage.deliver(Heartbeat, to=1)
        stage.deliver(PrepareOk)
        stage.fire(1, "leader")
    assert not stage.waiting(Suspect)
    assert follower.group.status is Status.REPAIRING


def test_entries_matched_by_a_heartbeat_are_answered_when_a_prepare_has_them() -> None:
    """Neither the heartbeat that matches them nor the commit makes the follower answer. The Prepare is the last occasion to do so."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.crash(2)
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    stage.deliver(AdaptiveReply)
    replicas[0].slow_path.on_sync_position()
    stage.deliver(Heartbeat)
    assert replicas[1].matched_in_last_view() == replicas[0].state.log.last
    replicas[0].slow_path.need()
    stage.deliver(PrepareOk)
    stage.settle()
    assert stage.results[handle] == b""


def test_a_matched_position_of_an_older_view_does_not_count_in_a_later_one() -> None:
    """One of five has matched an entry that only the dead leader had too. The next view starts without it, so it is not matched any
    more."""
    stage, replicas = stage_of(5)
    (client,) = open_sessions(stage, 1)
    before = replicas[0].state.log.last
    stage.call(client, b"x")
    stage.deliver(Request, to=0)
    stage.deliver(Request, to=4)
    stage.in_flight = []
    replicas[0].slow_path.on_sync_position()
    stage.deliver(Heartbeat, to=4)
    assert replicas[4].matched_in_last_view() == before + 1
    stage.crash(0)
    stage.in_flight = []
    for replica in replicas[1:4]:
        replica.view_change.start(1, "test")
    stage.settle(lambda flight: 4 not in (flight.source, flight.destination) or isinstance(flight.message, StartView))
    assert replicas[4].view == 1
    assert replicas[4].view_change.start_last == replicas[4].leader_log.matched == before
    assert operations(replicas[4], before + 1) == [b"x"]


def test_the_log_a_view_started_with_is_not_answered_again_on_the_slow_path() -> None:
    """It was answered when the view was entered. Answering thousands of operations again would delay urgent work of the leader."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    for _ in range(5):
        stage.call(client, b"x")
        stage.settle()
    stage.run(30 * MS)
    for replica in replicas:
        replica.view_change.start(1, "test")
    stage.settle(lambda flight: not isinstance(flight.message, PrepareOk))
    assert [replica.view for replica in replicas] == [1, 1, 1]
    replicas[1].slow_path.need()
    assert replicas[1].slow_path.active
    assert not stage.waiting(AdaptiveReply)
