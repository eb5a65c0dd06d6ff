"""One rule per test. Breaking the rule would lose an accepted result, or leave a client waiting."""

from __future__ import annotations

from typing import cast

import pytest
from acting import MS, open_sessions, operations, stage_of

from stretto.protocols.speculative.client import SpeculativeClient
from stretto.protocols.speculative.messages import SpeculativeReply, Sync, SyncReply
from stretto.replication.messages import Commit, DoViewChange, Request, StartView, StartViewChange, ViewEntered
from stretto.testing.stage import InFlight


def test_answers_of_different_views_never_count_together() -> None:
    """Position and hash are equal, but some of the replicas may have left the older view since."""
    stage, _ = stage_of(3)
    client = cast(SpeculativeClient, open_sessions(stage, 1)[0])
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    answers = [cast(SpeculativeReply, flight.message) for flight in stage.waiting(SpeculativeReply)]
    assert len({answer.hash for answer in answers}) == 1
    stage.lose()
    in_view_3 = [SpeculativeReply(3, one.position, one.hash, one.session, one.number, one.result, False) for one in answers]
    client.on_message(0, answers[0])
    client.on_message(1, answers[1])
    client.on_message(2, in_view_3[2])
    client.on_message(0, answers[0])
    client.on_message(1, in_view_3[1])
    client.on_message(0, answers[0])
    assert handle not in stage.results
    client.on_message(0, in_view_3[0])
    assert stage.results[handle] == b""


@pytest.mark.parametrize("n", [3, 5])
def test_a_vote_has_all_uncommitted_entries(n: int) -> None:
    """However many they are, entries that a majority has in one order keep their positions."""
    stage, replicas = stage_of(n)
    clients = open_sessions(stage, 100)
    first = replicas[0].state.log.last + 1
    handles = [stage.call(client, b"%d" % number) for number, client in enumerate(clients)]
    silent = range(n // 2 + 1, n)
    for index in silent:
        stage.lose(to=index)
    stage.deliver(Request)
    stage.lose()
    before = replicas[0].state.log.last_hash
    replicas[0].view_change.start(n, "scenario")
    stage.settle(lambda flight: flight.destination not in silent)
    assert replicas[0].view == n
    assert {replica.state.log.last_hash for replica in replicas if replica.group.index not in silent} == {before}
    assert operations(replicas[0], first) == [b"%d" % number for number in range(100)]
    assert replicas[0].state.rolled_back_operations == 0
    assert all(stage.results[handle] == b"" for handle in handles)


@pytest.mark.parametrize("n", [3, 5])
def test_a_replica_that_has_not_entered_a_view_does_not_count_for_commits_in_it(n: int) -> None:
    """One replica less than a majority is in the view. The others wait for its StartView, and their votes for the next view lack its
    log."""
    stage, replicas = stage_of(n)
    (client,) = open_sessions(stage, 1)
    r0 = replicas[0]
    committed = r0.state.committed
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    stage.lose()
    r0.view_change.start(n, "scenario")

    def hardly_entered(flight: InFlight) -> bool:
        return not isinstance(flight.message, StartView) or flight.destination < n // 2

    stage.run(40 * MS, hardly_entered)
    assert [replica.group.status.value for replica in replicas].count("normal") == n // 2
    assert {replica.view for replica in replicas} == {n}
    assert {replica.state.committed for replica in replicas} == {committed}
    assert handle not in stage.results
    stage.run(200 * MS)
    assert stage.results[handle] == b""


def test_all_replicas_answer_for_earlier_entries_when_they_enter_a_view() -> None:
    """A client whose answers in the old view were lost gets answers from all replicas, without a retransmission and without a commit."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    stage.lose()
    replicas[0].view_change.start(3, "scenario")
    stage.deliver(StartViewChange)
    stage.deliver(StartViewChange)
    stage.deliver(DoViewChange)
    stage.deliver(StartView)
    assert len(stage.waiting(SpeculativeReply)) == 3
    stage.lose(ViewEntered)
    stage.lose(Commit)
    stage.deliver(SpeculativeReply)
    assert stage.results[handle] == b""
    assert {replica.state.rolled_back_operations for replica in replicas} == {0}


@pytest.mark.parametrize("n", [3, 5])
def test_a_replica_waits_for_requests_in_flight(n: int) -> None:
    """A request that comes a little after the Sync, or after its Commit, causes neither a reconciliation nor a repair."""
    stage, replicas = stage_of(n)
    (client,) = open_sessions(stage, 1)
    stage.call(client, b"x")
    (late,) = stage.waiting(Request, to=n - 1)
    stage.in_flight.remove(late)
    stage.settle()
    stage.fire(0, "sync")
    stage.settle()
    assert replicas[0].state.committed == replicas[0].state.log.last - (n == 3)
    stage.in_flight.append(late)
    stage.settle()
    assert {replica.state.committed for replica in replicas[:-1]} == {replicas[-1].state.log.last}
    stage.run(20 * MS)
    assert len({replica.state.committed for replica in replicas}) == 1
    assert sum(replica.transfer.repairs + replica.view_change.reconciliations for replica in replicas) == 0


def test_a_lost_request_delays_three_replicas_without_a_timeout() -> None:
    """A replica that lacks it answers so, and the leader learns without a timeout that there is no superquorum."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    handle = stage.call(client, b"x")
    stage.lose(Request, to=2)
    stage.run(stage.ports[0].timers["sync"] - stage.now_ns + 6 * MS)
    assert stage.results[handle] == b""
    assert replicas[0].detector.unresponsive == set()


@pytest.mark.parametrize("lost", [Sync, SyncReply, Commit, StartViewChange, DoViewChange, StartView, ViewEntered])
def test_every_kind_of_message_may_be_lost_once(lost: type) -> None:
    """All messages of one kind are lost once. Everything still commits before a view change times out or a leader is suspected."""
    stage, replicas = stage_of(3)
    one, two = open_sessions(stage, 2)
    if lost not in (Sync, SyncReply, Commit):
        replicas[0].view_change.start(3, "scenario")
    handles = [stage.call(one, b"a"), stage.call(two, b"b")]
    seen = 0

    def once(flight: InFlight) -> bool:
        nonlocal seen
        seen += isinstance(flight.message, lost)
        return not isinstance(flight.message, lost)

    while not seen:
        stage.run(MS, once)
    stage.run(45 * MS)
    assert all(stage.results[handle] == b"" for handle in handles)
    assert {replica.state.committed for replica in replicas} == {replicas[0].state.log.last}
    assert {replica.view_change.view_changes for replica in replicas} == {0}


@pytest.mark.parametrize("dead", [1, 2])
def test_with_one_of_three_dead_operations_wait_for_no_timer(dead: int) -> None:
    """Once the leader knows which replica does not respond, every operation begins a synchronisation and a reconciliation."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.crash(dead)
    stage.call(client, b"notices")
    stage.run(100 * MS)
    assert replicas[0].detector.unresponsive == {dead}
    before = stage.now_ns
    for _ in range(5):
        handle = stage.call(client, b"x")
        stage.settle()
        assert stage.results[handle] == b""
    assert stage.now_ns == before


def test_a_replica_that_stops_receiving_while_reconciling_starts_at_most_one_view() -> None:
    """It knew of a majority that had joined its view, but knows of none that joins the next."""
    stage, replicas = stage_of(3)
    clients = open_sessions(stage, 2)
    replicas[0].view_change.start(3, "scenario")
    stage.deliver(StartViewChange, to=2)
    handles = [stage.call(client, b"x") for client in clients]
    stage.run(2_000 * MS, lambda flight: flight.destination != 2)
    assert all(stage.results[handle] == b"" for handle in handles)
    assert max(replica.view_change.view_changes for replica in replicas) <= 1


def test_a_replica_that_does_not_hear_the_leader_learns_the_view_from_another() -> None:
    """It suspects the leader of a view that is over, and a replica in the present view sends it the StartView."""
    stage, replicas = stage_of(3)
    open_sessions(stage, 1)
    replicas[1].view_change.start(1, "scenario")
    stage.settle(lambda flight: flight.destination != 2)
    assert [replica.view for replica in replicas] == [1, 1, 0]
    stage.run(100 * MS, lambda flight: (flight.source, flight.destination) != (1, 2))
    assert replicas[2].view == 1
    assert replicas[2].group.status.value == "normal"


def test_the_last_request_before_a_silence_is_committed_though_the_leader_lost_it() -> None:
    """A superquorum without the leader completes the call. After that, no other request shows the leader that it lacks one."""
    stage, replicas = stage_of(5)
    (client,) = open_sessions(stage, 1)
    handle = stage.call(client, b"last")
    stage.lose(Request, to=0)
    stage.settle()
    assert stage.results[handle] == b""
    assert replicas[0].state.log.last < replicas[1].state.log.last
    stage.run(50 * MS)
    assert {replica.state.committed for replica in replicas} == {replicas[1].state.log.last}
    assert len({replica.state.log.last_hash for replica in replicas}) == 1
    assert {replica.view_change.reconciliations for replica in replicas} == {0}
