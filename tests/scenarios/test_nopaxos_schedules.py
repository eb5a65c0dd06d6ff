"""Schedules of NOPaxos: lost messages, sequencers that fail, leaders that change."""

from __future__ import annotations

from typing import cast

import pytest
from acting import MS, open_sessions, operations

from stretto.core.node import Client
from stretto.core.state_machine import NullMachine
from stretto.protocols.nopaxos import NOPAXOS
from stretto.protocols.nopaxos.messages import (
    NO_OP,
    GapCommit,
    GapRequest,
    NoPaxosReply,
    OpenSession,
    SequencerAlive,
    SessionOpened,
    Stamped,
)
from stretto.protocols.nopaxos.replica import NoPaxosReplica
from stretto.replication.messages import Request
from stretto.testing.stage import InFlight, Stage


def stage_of(n: int, *, durable: bool = False) -> tuple[Stage, list[NoPaxosReplica]]:
    """A stage with `n` replicas of NOPaxos and two sequencers, and the replicas. The first sequencer serves the view."""
    stage = Stage(NOPAXOS, n, NullMachine, durable=durable)
    replicas = cast(list[NoPaxosReplica], stage.replicas)
    assert {(replica.session.sequencer, replica.view) for replica in replicas} == {(0, 0)}
    return stage, replicas


def stamp(stage: Stage, client: Client, operation: bytes) -> int:
    """Begin a call, and let its request get its number. Returns the call's handle; the stamps are in flight."""
    handle = stage.call(client, operation)
    stage.deliver(Request, to=stage.config.n)
    return handle


def logs(replicas: list[NoPaxosReplica], first: int) -> list[list[bytes]]:
    """The operations in the logs from a position on; a no-op is empty."""
    return [operations(replica, first) for replica in replicas]


def test_two_delays_and_a_sequencer() -> None:
    """The leader's answer and one equal to it complete the call; two answers without the leader's do not."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    handle = stamp(stage, client, b"x")
    assert stage.deliver(Stamped) == 3
    stage.deliver(NoPaxosReply, source=1)
    stage.deliver(NoPaxosReply, source=2)
    assert handle not in stage.results
    stage.deliver(NoPaxosReply, source=0)
    assert stage.results[handle] == b""
    assert not stage.in_flight
    stage.run(30 * MS)
    assert {replica.state.committed for replica in replicas} == {replicas[0].state.log.last}


def test_stamps_out_of_order_wait_for_each_other() -> None:
    stage, replicas = stage_of(3)
    one, two = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    stamp(stage, one, b"1")
    stamp(stage, two, b"2")
    for flight in reversed(stage.waiting(Stamped, to=1)):
        stage.deliver_one(flight)
    assert operations(replicas[1], first) == [b"1", b"2"]
    assert "gap" not in stage.ports[1].timers


@pytest.mark.parametrize("n", [3, 5])
def test_a_follower_that_missed_a_stamp_gets_it_from_the_leader(n: int) -> None:
    stage, replicas = stage_of(n)
    one, two = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    handles = [stamp(stage, one, b"1"), stamp(stage, two, b"2")]
    (lost, *_) = stage.waiting(Stamped, to=1)
    stage.in_flight.remove(lost)
    stage.settle()
    assert operations(replicas[1], first) == []
    assert all(stage.results[handle] == b"" for handle in handles)
    stage.fire(1, "gap")
    assert stage.deliver(GapRequest) == 1
    stage.deliver(GapCommit)
    assert logs(replicas, first) == [[b"1", b"2"]] * n
    assert replicas[1].state.rolled_back_operations == 0


def test_a_second_gap_is_asked_for_at_once() -> None:
    """While the replica waited for the first gap, it has also waited long enough for the second."""
    stage, replicas = stage_of(3)
    clients = open_sessions(stage, 4)
    first = replicas[0].state.log.last + 1
    for number, client in enumerate(clients, 1):
        stamp(stage, client, b"%d" % number)
    for lost in stage.waiting(Stamped, to=1)[::2]:
        stage.in_flight.remove(lost)
    stage.settle()
    stage.fire(1, "gap")
    stage.settle()
    assert operations(replicas[1], first) == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("n", [3, 5])
def test_a_leader_that_missed_a_stamp_gets_it_from_a_follower(n: int) -> None:
    """Also from a follower that keeps the request after a gap of its own."""
    stage, replicas = stage_of(n)
    one, two, three = open_sessions(stage, 3)
    first = replicas[0].state.log.last + 1
    handles = [stamp(stage, one, b"1"), stamp(stage, two, b"2"), stamp(stage, three, b"3")]
    for flight in stage.waiting(Stamped):
        number, receiver = cast(Stamped, flight.message).number, flight.destination
        if (number % 3 == 1 and receiver != n - 1) or (number % 3 == 2 and receiver != 1):
            stage.in_flight.remove(flight)
    stage.deliver(Stamped)
    stage.run(10 * MS)
    assert logs(replicas, first) == [[b"1", b"2", b"3"]] * n
    assert all(stage.results[handle] == b"" for handle in handles)
    assert replicas[0].ordering.no_ops == 0


def test_a_request_that_no_replica_has_becomes_a_no_op_and_its_retransmission_runs() -> None:
    stage, replicas = stage_of(3)
    one, two = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    lost = stamp(stage, one, b"lost")
    stage.lose(Stamped)
    later = stamp(stage, two, b"later")
    stage.settle()
    assert later not in stage.results
    stage.run(8 * MS)
    assert stage.results[later] == b""
    assert logs(replicas, first) == [[b"", b"later"]] * 3
    assert replicas[2].state.log.entry_at(first) == NO_OP
    assert lost not in stage.results
    stage.run(50 * MS)
    assert stage.results[lost] == b""
    assert logs(replicas, first) == [[b"", b"later", b"lost"]] * 3


def test_the_loss_of_the_last_stamp_before_a_silence_is_noticed() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stamp(stage, client, b"x")
    stage.lose(Stamped, to=0)
    stage.run(40 * MS, lambda flight: not isinstance(flight.message, Request))
    assert len({replica.state.committed for replica in replicas}) == 1
    assert replicas[0].state.log.entry_at(replicas[0].state.log.last).operation == b"x"


def leader_appends_a_no_op(stage: Stage, one: Client, two: Client) -> list[int]:
    """The first call's stamp reaches only r2. The leader does not learn of it, and appends a no-op, which reaches only r1."""
    handles = [stamp(stage, one, b"lost")]
    stage.lose(Stamped, to=0)
    stage.lose(Stamped, to=1)
    handles.append(stamp(stage, two, b"later"))
    stage.deliver(Stamped)
    for _ in range(2):
        stage.fire(0, "gap")
        stage.lose(GapRequest)
    stage.deliver(GapCommit, to=1)
    return handles


def test_a_follower_replaces_a_request_by_the_leaders_no_op() -> None:
    """Later requests keep their positions and are answered again, since their hashes have changed."""
    stage, replicas = stage_of(3)
    one, two = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    lost, later = leader_appends_a_no_op(stage, one, two)
    assert logs(replicas, first) == [[b"", b"later"], [b"", b"later"], [b"lost", b"later"]]
    stage.lose(NoPaxosReply, source=1)
    stage.deliver(NoPaxosReply)
    assert not stage.results.keys() & {lost, later}
    stage.deliver(GapCommit, to=2)
    assert logs(replicas, first) == [[b"", b"later"]] * 3
    stage.deliver(NoPaxosReply)
    assert stage.results[later] == b""
    assert lost not in stage.results
    stage.run(50 * MS)
    assert stage.results[lost] == b""
    assert len({replica.state.log.last_hash for replica in replicas}) == 1


def test_a_follower_that_missed_the_no_op_learns_it_by_the_hash() -> None:
    stage, replicas = stage_of(3)
    one, two = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    leader_appends_a_no_op(stage, one, two)
    stage.lose()
    stage.run(15 * MS, lambda flight: not isinstance(flight.message, Request))
    assert logs(replicas, first) == [[b"", b"later"]] * 3


def test_a_no_op_in_one_log_survives_the_leader() -> None:
    """The leader and one follower have answered the call after it. The other follower has the request where they have a no-op."""
    stage, replicas = stage_of(3)
    one, two = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    lost, later = leader_appends_a_no_op(stage, one, two)
    stage.lose(NoPaxosReply, source=2)
    stage.deliver(NoPaxosReply)
    assert stage.results[later] == b""
    stage.lose()
    stage.crash(0)
    stage.run(400 * MS)
    assert {replica.view for replica in replicas[1:]} == {1}
    assert [log[:3] for log in logs(replicas[1:], first)] == [[b"", b"later", b"lost"]] * 2
    assert stage.results[lost] == b""


def test_the_next_view_has_another_sequencer_and_the_same_leader_when_one_dies() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.crash(3)
    handle = stage.call(client, b"x")
    stage.run(300 * MS)
    assert stage.results[handle] == b""
    assert {(replica.view, replica.session.sequencer) for replica in replicas} == {(3, 1)}
    again = stage.call(client, b"y")
    assert [flight.destination for flight in stage.waiting(Request)] == [4]
    stage.settle()
    assert stage.results[again] == b""


def test_a_sequencer_that_was_started_again_stamps_for_no_view_that_it_stamped_for() -> None:
    """It opens a session for an old OpenSession, in its new incarnation. No replica takes part in that, and the next view begins."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.crash(3)
    stage.begin_sequencer(3)
    stage.deliver_one(_sent(stage, 0, 3, OpenSession(0)))
    assert stage.deliver(SessionOpened) == 1
    last = [replica.state.log.last for replica in replicas]
    handle = stamp(stage, client, b"x")
    assert stage.deliver(Stamped) == 3
    assert [replica.state.log.last for replica in replicas] == last
    stage.run(300 * MS)
    assert {replica.view for replica in replicas} == {3}
    assert stage.results[handle] == b""


def _sent(stage: Stage, source: int, destination: int, message: OpenSession) -> InFlight:
    """A copy of a message that was sent before."""
    flight = InFlight(source, destination, message)
    stage.in_flight.append(flight)
    return flight


def test_one_replica_that_does_not_hear_the_sequencer_starts_no_view() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)

    def reaches(flight: InFlight) -> bool:
        return flight.destination != 1 or not isinstance(flight.message, Stamped | SequencerAlive)

    stage.run(300 * MS, reaches)
    handle = stage.call(client, b"x")
    stage.run(100 * MS, reaches)
    assert stage.results[handle] == b""
    assert {replica.view for replica in replicas} == {0}
    assert {replica.state.committed for replica in replicas} == {replicas[0].state.log.last}


def test_a_leader_that_finds_no_sequencer_is_replaced() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.crash(3)
    handle = stage.call(client, b"x")

    def reaches(flight: InFlight) -> bool:
        return not (isinstance(flight.message, OpenSession) and flight.source == 0)

    stage.run(1_000 * MS, reaches)
    assert stage.results[handle] == b""
    assert all(replica.leader != 0 for replica in replicas)


def test_a_request_that_was_stamped_twice_runs_once() -> None:
    """One follower misses the first number, and gets the second before the gap is closed. All answer with the first position."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    first = replicas[0].state.log.last + 1
    handle = stage.call(client, b"x")
    (request,) = stage.waiting(Request)
    stage.deliver_one(request, again=True)
    stage.deliver_one(request)
    stage.in_flight.remove(stage.waiting(Stamped, to=2)[0])
    stage.deliver(Stamped)
    assert stage.waiting(NoPaxosReply, source=2) == []
    stage.lose(NoPaxosReply, source=1)
    stage.fire(2, "gap")
    stage.deliver(GapRequest)
    stage.deliver(GapCommit)
    answers = [cast(NoPaxosReply, flight.message) for flight in stage.waiting(NoPaxosReply)]
    assert {answer.position for answer in answers} == {first}
    stage.deliver(NoPaxosReply)
    assert stage.results[handle] == b""
    assert logs(replicas, first) == [[b"x", b"x"]] * 3
    assert [replica.state.result_at(first + 1) for replica in replicas] == [None] * 3
    stage.run(20 * MS)
    assert {replica.state.committed for replica in replicas} == {first + 1}


def test_a_session_is_opened_only_once() -> None:
    stage, replicas = stage_of(3)
    handle = stage.call(stage.client(), b"x")
    (request,) = stage.waiting(Request)
    stage.deliver_one(request, again=True)
    stage.deliver_one(request)
    stage.run(30 * MS)
    assert stage.results[handle] == b""
    assert [len(replica.state.sessions.records) for replica in replicas] == [1] * 3


def test_a_leader_that_was_started_again_from_its_disk_ends_its_view() -> None:
    """It does not know its view's session any more, and must not open another."""
    stage, replicas = stage_of(3, durable=True)
    (client,) = open_sessions(stage, 1)
    handle = stamp(stage, client, b"x")
    stage.deliver(Stamped)
    stage.deliver(NoPaxosReply)
    assert stage.results[handle] == b""
    stage.lose()
    stage.crash(0)
    stage.restart(0)
    assert stage.waiting(OpenSession) == []
    again = stage.call(client, b"y")
    stage.run(100 * MS)
    assert stage.results[again] == b""
    assert {replica.view for replica in replicas} == {3}
    assert logs(cast(list[NoPaxosReplica], stage.replicas), replicas[1].state.log.last - 1) == [[b"x", b"y"]] * 3


def test_a_follower_that_was_started_again_from_its_disk_continues_in_its_view() -> None:
    stage, replicas = stage_of(3, durable=True)
    (client,) = open_sessions(stage, 1)
    handle = stamp(stage, client, b"x")
    stage.deliver(Stamped)
    stage.lose()
    stage.crash(2)
    stage.restart(2)
    stage.run(60 * MS)
    assert stage.results[handle] == b""
    assert {replica.view for replica in stage.replicas} == {0}
    assert {replica.state.committed for replica in stage.replicas} == {replicas[0].state.log.last}


def test_the_opening_of_a_dropped_session_is_not_answered_as_refused() -> None:
    """The opening had a result, even if the session has been dropped since."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    opening = replicas[0].state.log.entry_at(1)
    assert isinstance(opening, Request)
    session = replicas[0].state.result_at(1)
    replicas[0].state.sessions.undo(opening, [])
    replicas[0].answer_range(1, 1)
    (answer,) = stage.waiting(NoPaxosReply)
    assert cast(NoPaxosReply, answer.message).result == session
    assert client.metrics()["completed"] == 1
