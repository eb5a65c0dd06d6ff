"""Replicas with disks: a crash is only a pause in which messages are lost, and all replicas may crash at once."""

from __future__ import annotations

from typing import cast

from acting import MS, open_sessions, operations

from stretto.core.config import Limits
from stretto.core.node import Client
from stretto.core.state_machine import NullMachine
from stretto.protocols.speculative import SPECULATIVE
from stretto.protocols.speculative.messages import Sync
from stretto.protocols.speculative.replica import SpeculativeReplica
from stretto.replication.group import Status, start_number
from stretto.replication.messages import (
    Bootstrap,
    BootstrapReply,
    DoViewChange,
    GetIncarnations,
    IncarnationsReply,
    Recover,
    Request,
    StartView,
    StartViewChange,
)
from stretto.replication.records import Checkpoint, Known, RolledBack
from stretto.testing.stage import Stage


def stage_of(n: int, checkpoint_operations: int = 1_000) -> tuple[Stage, list[SpeculativeReplica], Client]:
    stage = Stage(SPECULATIVE, n, NullMachine, durable=True, limits=Limits(checkpoint_operations=checkpoint_operations))
    (client,) = open_sessions(stage, 1)
    return stage, cast(list[SpeculativeReplica], stage.replicas), client


def replicas_of(stage: Stage) -> list[SpeculativeReplica]:
    return cast(list[SpeculativeReplica], stage.replicas)


def complete(stage: Stage, client: Client, *names: bytes) -> None:
    for operation in names:
        handle = stage.call(client, operation)
        stage.run(500 * MS)
        assert stage.results[handle] == b""


def restart(stage: Stage, index: int) -> SpeculativeReplica:
    return cast(SpeculativeReplica, stage.restart(index))


def test_all_lose_power_at_once() -> None:
    stage, (r0, *_), client = stage_of(3)
    complete(stage, client, b"a", b"b", b"c")
    before = operations(r0, 1)
    for index in range(3):
        stage.crash(index)
    stage.lose()
    replicas = [restart(stage, index) for index in range(3)]
    assert all(operations(replica, 1) == before for replica in replicas)
    assert all(replica.group.in_service for replica in replicas), "there is nobody to recover from, and no need to"
    complete(stage, client, b"d")
    assert all(operations(replica, len(before) + 1) == [b"d"] for replica in replicas)


def test_a_restarted_replica_keeps_its_incarnation() -> None:
    stage, (r0, r1, _), _ = stage_of(3)
    incarnations = r1.group.incarnations
    stage.crash(1)
    assert restart(stage, 1).group.incarnations == incarnations == r0.group.incarnations


def test_speculative_entries_are_there_and_can_still_be_undone() -> None:
    stage, (r0, _, r2), client = stage_of(3)
    first = r2.state.log.last + 1
    stage.call(client, b"a")
    stage.deliver(Request, to=2)
    stage.lose()
    stage.crash(2)
    r2 = restart(stage, 2)
    assert operations(r2, first) == [b"a"]
    assert r2.state.committed < first
    r2.state.roll_back_to(first - 1)
    r2.check_invariants()
    assert stage.ports[2].records[-1] == RolledBack(first - 1)
    stage.crash(2)
    assert restart(stage, 2).state.log.last == first - 1
    assert r0.state.log.last == first - 1


def test_a_leader_that_comes_back_does_not_commit_what_its_view_did_not_start_with() -> None:
    """It is in its view again, with speculative entries after those of the view's start. A majority in the view commits only the latter."""
    stage, _, client = stage_of(3)
    stage.replicas[0].view_change.start(3, "scenario")  # type: ignore[attr-defined]
    stage.settle()
    stage.call(client, b"a")
    stage.deliver(Request, to=0)
    stage.lose()
    stage.crash(0)
    r0 = restart(stage, 0)
    assert (r0.view, r0.group.status, r0.state.log.last - r0.state.committed) == (3, Status.NORMAL, 1)
    committed = r0.state.committed
    for follower in (1, 2):
        stage.replicas[follower].on_message(
            0, Sync(r0.group.incarnations, 3, r0.state.committed, r0.state.committed, r0.state.log.hash_at(r0.state.committed), None)
        )
    stage.settle()
    assert r0.state.committed == committed


def test_a_restarted_replica_continues_to_the_view_that_it_had_promised() -> None:
    stage, (_, r1, r2), _ = stage_of(3)
    r2.view_change.start(4, "scenario")
    stage.lose()
    stage.crash(2)
    r2 = restart(stage, 2)
    assert (r2.view, r2.group.status, r2.group.last_normal_view) == (4, Status.VIEW_CHANGE, 0)
    assert stage.waiting(StartViewChange, source=2)
    stage.run(500 * MS)
    assert r2.group.status is Status.NORMAL
    assert r1.view == r2.view >= 4


def test_a_view_and_the_log_it_starts_with_are_persisted_together() -> None:
    """After the crash, the last view and the log with which it started are those from before, and so is the StartView."""
    stage, (_, r1, r2), client = stage_of(3)
    complete(stage, client, b"a")
    stage.call(client, b"b")
    stage.deliver(Request)
    stage.lose()
    r1.view_change.start(1, "scenario")
    stage.deliver(StartViewChange)
    stage.deliver(StartViewChange)
    stage.deliver(DoViewChange)
    stage.deliver(StartView, to=2)
    frozen = r2.view_change.start_view
    stage.lose()
    stage.crash(2)
    r2 = restart(stage, 2)
    assert (r2.group.last_normal_view, r2.view_change.start_view, r2.group.status) == (1, frozen, Status.NORMAL)
    assert operations(r2, r2.state.log.last) == [b"b"]


def test_records_stay_few() -> None:
    stage, replicas, client = stage_of(3, checkpoint_operations=10)
    for number in range(60):
        complete(stage, client, b"%d" % number)
    for index, replica in enumerate(replicas):
        records = stage.ports[index].records
        assert len(records) < 40
        assert [type(record) for record in records[:2]] == [Known, Checkpoint]
        stage.crash(index)
        again = restart(stage, index)
        assert (again.state.log.last, again.view, again.state.snapshot()) == (
            replica.state.log.last,
            replica.view,
            replica.state.snapshot(),
        )


def test_a_replica_that_lost_its_disk_recovers_from_the_others() -> None:
    stage, (r0, *_), client = stage_of(3)
    complete(stage, client, b"a")
    stage.crash(2)
    stage.ports[2].records = []
    r2 = restart(stage, 2)
    assert not r2.group.in_service
    stage.run(500 * MS)
    assert (r2.group.in_service, operations(r2, 1)) == (True, operations(r0, 1))
    stage.crash(2)
    assert restart(stage, 2).group.in_service


def test_a_replica_that_crashes_while_it_recovers_begins_again() -> None:
    stage, (r0, *_), client = stage_of(3, checkpoint_operations=10)
    for number in range(25):
        complete(stage, client, b"%d" % number)
    stage.crash(2)
    stage.ports[2].records = []
    r2 = restart(stage, 2)
    for _ in range(400):
        if r2.transfer.checkpoints_installed:
            break
        stage.deliver_one(stage.in_flight[0])
    assert r2.transfer.checkpoints_installed
    assert not r2.group.in_service
    stage.crash(2)
    r2 = restart(stage, 2)
    assert not r2.group.in_service, "it has not been in service since it lost its state"
    assert r2.state.committed > 0, "but what was committed is here already"
    stage.run(500 * MS)
    assert (r2.group.in_service, r2.state.log.last_hash) == (True, r0.state.log.last_hash)


def test_an_interrupted_first_start_continues() -> None:
    """Nothing was lost, so the replica keeps its first incarnation."""
    stage, *_ = stage_of(3)
    for index in range(3):
        stage.crash(index)
    stage.lose()
    for index in range(3):
        stage.bootstrap(index)
    stage.deliver(Bootstrap, to=0)
    incarnations = [replica.group.incarnation for replica in replicas_of(stage)]
    for index in range(3):
        stage.crash(index)
    stage.lose()
    for index in range(3):
        stage.restart(index)
    stage.run(100 * MS)
    assert all(replica.group.in_service for replica in replicas_of(stage))
    assert [replica.group.incarnation for replica in replicas_of(stage)] == incarnations


def test_a_replica_that_asked_for_an_incarnation_is_not_in_its_first_one() -> None:
    """It has learnt the number of an earlier incarnation. If it crashes then, it recovers and does not bootstrap."""
    stage, *_ = stage_of(3)
    stage.crash(2)
    stage.ports[2].records = []
    stage.restart(2)
    stage.deliver(GetIncarnations)
    stage.deliver(IncarnationsReply)
    assert stage.ports[2].records
    stage.crash(2)
    assert restart(stage, 2).metrics()["status"] == "lost state"


def test_a_replica_that_was_bootstrapped_by_mistake_recovers_when_started_correctly() -> None:
    """The mistake is recorded on its disk, but the replica is refused only once."""
    stage, *_ = stage_of(3)
    stage.crash(2)
    stage.ports[2].records = []
    stage.bootstrap(2)
    stage.deliver(Bootstrap)
    stage.deliver(BootstrapReply)
    assert 2 not in stage.nodes
    assert any(isinstance(record, Bootstrap) for record in stage.ports[2].records)
    r2 = restart(stage, 2)
    stage.run(100 * MS)
    assert r2.group.in_service
    assert [start_number(incarnation) for incarnation in r2.group.incarnations] == [1, 1, 2]


def test_an_incarnation_taken_after_a_mistaken_bootstrap_is_not_a_first_one() -> None:
    """All replicas know it in that incarnation, as they would after a first start. But it has still lost its state."""
    stage, *_ = stage_of(3)
    stage.crash(2)
    stage.ports[2].records = []
    stage.bootstrap(2)
    stage.deliver(Bootstrap)
    stage.deliver(BootstrapReply)
    restart(stage, 2)
    stage.deliver(Bootstrap)
    stage.deliver(BootstrapReply)
    stage.deliver(GetIncarnations)
    stage.deliver(IncarnationsReply)
    stage.deliver(Recover)
    stage.crash(2)
    stage.lose()
    r2 = restart(stage, 2)
    stage.deliver(Bootstrap)
    stage.deliver(BootstrapReply)
    assert not r2.group.in_service
    stage.run(100 * MS)
    assert r2.group.in_service


def test_compacted_records_include_the_view_that_was_left() -> None:
    stage, (_, _, r2), _ = stage_of(3)
    r2.view_change.start(4, "scenario")
    stage.lose()
    stage.ports[2].compact(r2.records())
    stage.crash(2)
    r2 = restart(stage, 2)
    assert (r2.view, r2.group.status, r2.group.last_normal_view) == (4, Status.VIEW_CHANGE, 0)
