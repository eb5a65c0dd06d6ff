"""Schedules of Multi-Paxos: Prepares that are lost or out of order, followers that lag, leaders that change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from acting import MS, later, open_sessions, operations

from stretto.core.config import Limits
from stretto.core.state_machine import NullMachine
from stretto.protocols.multipaxos import MULTIPAXOS, MULTIPAXOS_BATCHED
from stretto.protocols.multipaxos.replica import MultiPaxosReplica
from stretto.replication.group import Status
from stretto.replication.messages import EntriesCompacted, GetLog, Heartbeat, Prepare, PrepareOk, Reply, Request
from stretto.testing.stage import Stage


def stage_of(
    n: int, *, batched: bool = False, durable: bool = False, limits: Limits | None = None
) -> tuple[Stage, list[MultiPaxosReplica]]:
    """A stage with `n` replicas of Multi-Paxos, and these."""
    stage = Stage(MULTIPAXOS_BATCHED if batched else MULTIPAXOS, n, NullMachine, durable=durable, limits=limits or Limits())
    return stage, cast(list[MultiPaxosReplica], stage.replicas)


def sizes(stage: Stage, to: int) -> list[int]:
    """The number of operations in each Prepare that is in flight to a follower."""
    return [len(cast(Prepare, flight.message).entries) for flight in stage.waiting(Prepare, to=to)]


def settle_all_but(stage: Stage, *away: int) -> None:
    """Deliver all messages that neither come from nor go to these replicas."""
    stage.settle(keep=lambda flight: not {flight.source, flight.destination} & set(away))


@pytest.mark.parametrize("n", [3, 5])
def test_four_delays_and_an_answer_when_a_majority_has_it(n: int) -> None:
    stage, replicas = stage_of(n)
    (client,) = open_sessions(stage, 1)
    committed = replicas[0].state.committed
    handle = stage.call(client, b"x")
    assert stage.deliver(Request) == 1
    assert stage.deliver(Prepare) == n - 1
    assert not stage.waiting(Reply)
    for follower in range(1, n // 2):
        stage.deliver(PrepareOk, source=follower)
    assert replicas[0].state.committed == committed
    stage.deliver(PrepareOk, source=n // 2)
    assert replicas[0].state.committed == committed + 1
    assert stage.deliver(Reply) == 1
    assert stage.results[handle] == b""


def test_a_retransmitted_request_is_answered_when_it_is_committed() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.call(client, b"x")
    (flight,) = stage.waiting(Request)
    stage.deliver_one(flight, again=True)
    stage.deliver_one(flight, again=True)
    last = replicas[0].state.log.last
    assert not stage.waiting(Reply)
    stage.deliver(Prepare)
    stage.deliver(PrepareOk)
    assert len(stage.waiting(Reply)) == 1
    stage.deliver_one(flight)
    assert len(stage.waiting(Reply)) == 2
    assert replicas[0].state.log.last == last


def test_a_lost_prepare_is_noticed_by_the_heartbeat() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    first = replicas[0].state.log.last + 1
    stage.call(client, b"x")
    stage.deliver(Request)
    assert stage.lose(Prepare, to=2) == 1
    stage.settle()
    assert (replicas[0].state.committed, replicas[2].state.log.last) == (first, first - 1)
    stage.fire(0, "heartbeat")
    stage.deliver(Heartbeat, to=2)
    assert "gap" in stage.ports[2].timers
    stage.fire(2, "gap")
    assert stage.deliver(GetLog, source=2) == 1
    stage.deliver(Prepare, to=2)
    assert operations(replicas[2], first) == [b"x"]
    assert replicas[2].state.committed == first


def test_prepares_out_of_order_wait() -> None:
    stage, replicas = stage_of(3)
    clients = open_sessions(stage, 3)
    first = replicas[0].state.log.last + 1
    for number, client in enumerate(clients):
        stage.call(client, b"%d" % number)
    stage.deliver(Request)
    for flight in reversed(stage.waiting(Prepare, to=1)):
        stage.deliver_one(flight)
    assert operations(replicas[1], first) == [b"0", b"1", b"2"]
    assert not replicas[1].leader_log.out_of_order
    assert not stage.waiting(GetLog)
    assert cast(PrepareOk, stage.waiting(PrepareOk, source=1)[-1].message).position == first + 2


def test_a_follower_that_is_late_by_more_than_the_log_gets_a_checkpoint() -> None:
    stage, replicas = stage_of(3, limits=Limits(checkpoint_operations=5))
    (client,) = open_sessions(stage, 1)
    for number in range(20):
        stage.call(client, b"%d" % number)
        settle_all_but(stage, 2)
    assert replicas[0].state.log.start > replicas[2].state.log.last
    stage.fire(0, "heartbeat")
    stage.deliver(Heartbeat, to=2)
    stage.fire(2, "gap")
    stage.deliver(GetLog, source=2)
    assert len(stage.waiting(EntriesCompacted, to=2)) == 1
    stage.settle()
    stage.run(20 * MS)
    assert replicas[2].transfer.checkpoints_installed == 1
    assert (replicas[2].view, replicas[2].state.committed) == (0, replicas[0].state.committed)
    assert replicas[2].state.snapshot() == replicas[0].state.snapshot()


@pytest.mark.parametrize("n", [3, 5])
def test_an_entry_that_one_follower_has_survives_the_leader(n: int) -> None:
    """The entry may be committed. The follower's log is the longest, so the next view commits the entry; it is executed once."""
    stage, replicas = stage_of(n)
    (client,) = open_sessions(stage, 1)
    first = replicas[0].state.log.last + 1
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    stage.deliver(Prepare, to=2)
    stage.crash(0)
    stage.lose()
    stage.run(1_000 * MS)
    assert stage.results[handle] == b""
    for replica in replicas[1:]:
        assert operations(replica, first) == [b"x"]
        assert replica.state.committed == first
        assert replica.group.status is Status.NORMAL


def test_an_entry_that_only_the_leader_had_is_dropped_by_the_next_view() -> None:
    stage, replicas = stage_of(3)
    one, two = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    stage.call(one, b"lost")
    stage.deliver(Request)
    stage.lose(Prepare)
    assert replicas[0].state.log.last == first
    replicas[1].view_change.start(1, "scenario")
    settle_all_but(stage, 0)
    stage.call(two, b"x")
    stage.lose(Request, to=0)
    stage.run(1_000 * MS)
    assert {replica.group.status for replica in replicas} == {Status.NORMAL}
    assert sorted(operations(replicas[1], first)) == [b"lost", b"x"]
    assert len({replica.state.log.hash_at(first + 1) for replica in replicas}) == 1


def test_an_acknowledgement_from_before_a_loss_of_state_does_not_count() -> None:
    """A majority has acknowledged the entry, but one of its members has lost its state since, and the leader knows that."""
    stage, replicas = stage_of(5)
    (client,) = open_sessions(stage, 1)
    leader, first = replicas[0], replicas[0].state.log.last + 1
    stage.call(client, b"x")
    stage.deliver(Request)
    stage.deliver(Prepare)
    stage.deliver(PrepareOk, source=1)
    leader.group.learn(later(leader, 1))
    stage.deliver(PrepareOk, source=2)
    assert leader.state.committed == first - 1
    stage.deliver(PrepareOk, source=3)
    assert leader.state.committed == first


def test_a_restarted_leader_with_a_disk_continues_in_its_view() -> None:
    stage, replicas = stage_of(3, durable=True)
    (client,) = open_sessions(stage, 1)
    first = replicas[0].state.log.last + 1
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    stage.lose(Prepare)
    stage.crash(0)
    leader = cast(MultiPaxosReplica, stage.restart(0))
    assert (leader.view, leader.group.status, leader.state.committed) == (0, Status.NORMAL, first - 1)
    stage.run(1_000 * MS)
    assert stage.results[handle] == b""
    assert all(operations(cast(MultiPaxosReplica, replica), first) == [b"x"] for replica in stage.replicas)


def test_the_size_and_number_of_batches_are_limited() -> None:
    stage, _ = stage_of(3, batched=True, limits=Limits(batch_size=3, pipeline=2))
    clients = open_sessions(stage, 10)
    handles: Iterator[int] = (stage.call(client, b"x") for client in clients)
    called = [next(handles)]
    stage.deliver(Request)
    assert sizes(stage, 1) == [1], "a lone request goes at once"
    called += handles
    stage.deliver(Request)
    assert sizes(stage, 1) == [1, 1], "the others wait behind two"
    stage.deliver(Prepare)
    stage.deliver(PrepareOk, source=1)
    assert sizes(stage, 1) == [3, 3]
    stage.settle()
    assert [stage.results[handle] for handle in called] == [b""] * 10


def test_batches_of_an_earlier_view_do_not_fill_the_pipeline_of_a_later_one() -> None:
    """A view that the leader missed did not have its operation. When it leads again, it sends that once more."""
    stage, replicas = stage_of(3, batched=True, limits=Limits(batch_size=1, pipeline=1))
    (client,) = open_sessions(stage, 1)
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    stage.lose(Prepare)
    replicas[1].view_change.start(1, "scenario")
    settle_all_but(stage, 0)
    assert (replicas[0].view, replicas[1].view, replicas[1].group.status) == (0, 1, Status.NORMAL)
    replicas[0].view_change.start(3, "scenario")
    stage.settle()
    assert (replicas[0].view, replicas[0].group.status) == (3, Status.NORMAL)
    assert stage.results[handle] == b""
