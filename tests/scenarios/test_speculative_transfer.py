"""Schedules of replicas that lack committed entries: they fetch them, and do not disturb the others meanwhile."""

from __future__ import annotations

from acting import MS, open_sessions, operations, stage_of

from stretto.replication.messages import DoViewChange, Entries, Request, StartView, StartViewChange, ViewEntered
from stretto.testing.stage import InFlight


def test_the_only_replica_that_knew_of_a_commit_crashes_during_the_transfer() -> None:
    """No replica may be left that has the entries which are fetched for one view. The next view has a lower commit base and is entered."""
    stage, (r0, r1, r2) = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.call(client, b"a")
    stage.run(300 * MS, lambda flight: 0 not in (flight.source, flight.destination))
    assert r1.leader == 1
    assert r1.state.committed == r2.state.committed == r0.state.committed + 1

    # r1 and r2 start the next view; only r1, its leader, learns that `b` is committed with it.
    stage.call(client, b"b")
    stage.lose(Request, to=0)
    stage.deliver(Request)
    stage.lose()
    r1.view_change.start(r1.view + 3, "scenario")
    stage.lose(to=0)
    stage.deliver(StartViewChange, to=2)
    stage.deliver(DoViewChange, to=1)
    stage.deliver(StartView, to=2)
    stage.deliver(ViewEntered, to=1)
    assert r1.state.committed == r2.state.committed + 1
    stage.lose()

    # r1 votes for a view of r0's and crashes, so that nobody can give r0 what it asks for.
    r0.view_change.start(r1.view + 2, "scenario")
    stage.deliver(StartViewChange, to=1)
    stage.deliver(DoViewChange, to=0)
    assert r0.transfer.current is not None
    assert r0.transfer.current.target == r1.state.committed
    stage.crash(1)
    stage.lose()
    stage.run(1_000 * MS)
    assert r0.state.committed == r2.state.committed == r1.state.committed
    assert operations(r0, r0.state.committed - 1) == [b"a", b"b"]


def test_a_slow_transfer_starts_no_view() -> None:
    """It has voted for a view and cannot enter it before it has the committed entries. It must not start another view because of that."""
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    missed = stage.call(client, b"missed by r2")
    stage.run(300 * MS, lambda flight: flight.destination != 2)
    assert stage.results[missed] == b""

    def fetches_nothing(flight: InFlight) -> bool:
        return flight.destination != 2 or not isinstance(flight.message, Entries)

    handle = stage.call(client, b"x")
    stage.run(2_000 * MS, fetches_nothing)
    assert stage.results[handle] == b""
    assert {replica.view_change.view_changes for replica in replicas} == {0}
    stage.run(100 * MS)
    assert len({replica.state.log.last_hash for replica in replicas}) == 1


def test_a_transfer_continues_over_view_changes() -> None:
    """The others start a view for each chunk that comes. A replica that began again with each view would never complete the transfer."""
    stage, (r0, r1, r2) = stage_of(3)
    clients = open_sessions(stage, 64)
    for client in clients:
        stage.call(client, bytes(60_000))
    stage.run(300 * MS, lambda flight: flight.destination != 2)
    assert r0.state.committed == r1.state.committed == r2.state.committed + len(clients)
    held: list[InFlight] = []

    def hold_pieces(flight: InFlight) -> bool:
        if isinstance(flight.message, Entries):
            held.append(flight)
        return not isinstance(flight.message, Entries)

    views = 0
    while r2.state.committed < r0.state.committed:
        views += 1
        assert views < 10
        r0.view_change.start(r0.view + 3, "scenario")
        stage.settle(hold_pieces)
        stage.deliver_one(held.pop(0), again=True)
        stage.settle(hold_pieces)
    assert views > 2
