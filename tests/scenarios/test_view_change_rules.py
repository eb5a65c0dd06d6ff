"""Rules of the view change that only rare orders of messages need."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from acting import later, open_sessions, operations

from stretto.core.node import Client
from stretto.core.state_machine import NullMachine
from stretto.protocols.multipaxos import MULTIPAXOS
from stretto.protocols.multipaxos.replica import MultiPaxosReplica
from stretto.replication.group import Status
from stretto.replication.messages import DoViewChange, Entries, Fetch, Heartbeat, Prepare, PrepareOk, Request, StartView, StartViewChange
from stretto.testing.stage import InFlight, Stage


def without(*members: int) -> Callable[[InFlight], bool]:
    return lambda flight: not {flight.source, flight.destination} & set(members)


def begin() -> tuple[Stage, list[MultiPaxosReplica], Client]:
    stage = Stage(MULTIPAXOS, 3, NullMachine)
    (client,) = open_sessions(stage, 1)
    return stage, cast(list[MultiPaxosReplica], stage.replicas), client


def merging_while_it_fetches() -> tuple[Stage, list[MultiPaxosReplica]]:
    """r1, which is to lead view 1, has r2's vote, and fetches what r2 knows to be committed: its answer comes from r0."""
    stage, replicas, client = begin()
    r0, r1, r2 = replicas
    stage.call(client, b"x")
    stage.settle(without(1))
    stage.fire(0, "heartbeat")
    stage.deliver(Heartbeat, to=2)
    assert r2.state.committed == r0.state.committed > r1.state.committed
    stage.lose()
    r1.view_change.start(1, "scenario")
    r2.view_change.start(1, "scenario")
    stage.deliver(StartViewChange, source=1, to=2)
    stage.deliver(StartViewChange, source=2, to=1)
    stage.deliver(DoViewChange, source=2, to=1)
    assert r1.view_change.merging is not None
    stage.lose()
    stage.fire(1, "fetch")
    stage.deliver(Fetch, to=0)
    return stage, replicas


def test_a_merge_goes_on_when_what_it_lacked_has_arrived() -> None:
    stage, (r0, r1, r2) = merging_while_it_fetches()
    stage.deliver(Entries, source=0, to=1)
    assert r1.group.status is Status.NORMAL
    assert operations(r1, r2.state.committed) == [b"x"]
    stage.settle()
    assert [replica.view for replica in (r0, r1, r2)] == [1, 1, 1]


def test_a_vote_does_not_count_if_its_voter_has_lost_its_state_while_we_fetched() -> None:
    stage, (_, r1, _) = merging_while_it_fetches()
    r1.group.learn(later(r1, 2))
    stage.deliver(Entries, source=0, to=1)
    assert r1.group.status is Status.VIEW_CHANGE
    assert r1.view_change.merging is None
    assert not stage.waiting(StartView)


def test_a_replica_that_knows_more_to_be_committed_than_the_voters_enters_their_view() -> None:
    stage, replicas, client = begin()
    r0, r1, r2 = replicas
    stage.call(client, b"x")
    stage.deliver(Request)
    stage.deliver(Prepare)
    stage.deliver(PrepareOk)
    assert operations(r1, r0.state.committed) == [b"x"]
    assert r1.state.committed == r2.state.committed < r0.state.committed
    stage.lose()
    for replica in (r1, r2):
        replica.view_change.start(1, "scenario")
    stage.settle(lambda flight: flight.source != 0 and (flight.destination != 0 or isinstance(flight.message, StartView)))
    assert r0.group.status is Status.NORMAL
    assert r0.view == 1
    assert operations(r0, r0.state.committed) == [b"x"]
