"""Schedules of Fast Paxos: collisions, classic rounds, what survives the leader, what a disk keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
from acting import MS, open_sessions, operations

from stretto.core.config import Limits
from stretto.core.node import Client
from stretto.core.state_machine import NullMachine
from stretto.protocols.fastpaxos import FASTPAXOS
from stretto.protocols.fastpaxos.fast_path import Accepted
from stretto.protocols.fastpaxos.replica import FastPaxosReplica
from stretto.replication.group import Status
from stretto.replication.messages import CheckpointChunk, DoViewChange, Entries, Forward, Prepare, PrepareOk, Reply, Request
from stretto.testing.stage import Stage


def stage_of(n: int, *, durable: bool = False, limits: Limits | None = None) -> tuple[Stage, list[FastPaxosReplica]]:
    """A stage with `n` replicas of Fast Paxos, and these."""
    stage = Stage(FASTPAXOS, n, NullMachine, durable=durable, limits=limits or Limits())
    return stage, cast(list[FastPaxosReplica], stage.replicas)


def place(stage: Stage, clients: Sequence[Client], orders: Sequence[Sequence[int]]) -> list[int]:
    """Each client begins a call, named by its number. The requests arrive at each replica in the given order, or not at all."""
    handles = [stage.call(client, b"%d" % number) for number, client in enumerate(clients)]
    arrivals = {(flight.destination, cast(Request, flight.message).operation): flight for flight in stage.waiting(Request)}
    for replica, order in enumerate(orders):
        for number in order:
            stage.deliver_one(arrivals[replica, b"%d" % number])
    stage.lose(Request)
    return handles


def survive_without_the_leader(stage: Stage, first: int, expected: list[bytes], committed: bool = True) -> None:
    """The leader crashes. The others continue, and have these operations at these positions."""
    stage.crash(0)
    stage.lose()
    stage.run(200 * MS)
    for replica in cast(list[FastPaxosReplica], stage.replicas[1:]):
        assert replica.group.status is Status.NORMAL
        assert replica.view > 0
        assert operations(replica, first)[: len(expected)] == expected
        assert replica.state.committed >= first + len(expected) - 1


@pytest.mark.parametrize(("n", "needed"), [(3, 2), (5, 3)])
def test_three_delays_when_a_superquorum_agrees(n: int, needed: int) -> None:
    stage, replicas = stage_of(n)
    clients = open_sessions(stage, 1)
    first = replicas[0].state.log.last + 1
    (handle,) = place(stage, clients, [[0]] * n)
    for follower in range(1, needed):
        stage.deliver(Accepted, source=follower)
    assert replicas[0].state.committed == first - 1
    stage.deliver(Accepted, source=needed)
    assert replicas[0].state.committed == first
    assert not stage.waiting(Prepare)
    stage.deliver(Reply)
    assert stage.results[handle] == b""


def test_an_accepted_that_comes_before_the_request_counts_later() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.call(client, b"x")
    for follower in (1, 2):
        stage.deliver(Request, to=follower)
    stage.deliver(Accepted)
    assert replicas[0].state.committed == replicas[0].state.log.last
    stage.deliver(Request, to=0)
    assert replicas[0].state.committed == replicas[0].state.log.last == replicas[1].state.log.last
    assert len(stage.waiting(Reply)) == 1


def test_a_collision_of_three_ends_in_a_classic_round() -> None:
    stage, replicas = stage_of(3)
    clients = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    handles = place(stage, clients, [[0, 1], [0, 1], [1, 0]])
    stage.deliver(Accepted)
    assert replicas[0].fast_path.collisions == 1
    assert len(stage.waiting(Prepare)) == 2
    stage.deliver(Prepare)
    assert operations(replicas[2], first) == [b"0", b"1"]
    assert replicas[2].leader_log.matched == first + 1
    stage.deliver(PrepareOk, source=2)
    assert replicas[0].state.committed == first + 1
    stage.settle()
    assert [stage.results[handle] for handle in handles] == [b"", b""]


def test_one_of_five_that_differs_needs_no_classic_round() -> None:
    stage, replicas = stage_of(5)
    clients = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    place(stage, clients, [[0, 1]] * 4 + [[1, 0]])
    stage.deliver(Accepted)
    assert replicas[0].state.committed == first + 1
    assert not stage.waiting(Prepare)
    stage.run(30 * MS)
    assert {tuple(operations(replica, first)) for replica in replicas} == {(b"0", b"1")}
    assert {replica.state.committed for replica in replicas} == {first + 1}


def test_a_prepare_whose_hash_matches_also_matches_the_entries_before_it() -> None:
    """The follower has the earlier entries already, and now knows that they are the leader's."""
    stage, replicas = stage_of(3)
    clients = open_sessions(stage, 2)
    follower, first = replicas[1], replicas[0].state.log.last + 1
    place(stage, clients[:1], [[0], [0], [0]])
    stage.deliver(Accepted)
    assert replicas[0].state.committed == first
    assert follower.leader_log.matched == first - 1
    place(stage, clients[1:], [[0], [], []])
    stage.fire(0, "resolve")
    stage.fire(0, "resolve")
    (prepare,) = stage.waiting(Prepare, to=1)
    assert cast(Prepare, prepare.message).first == first + 1
    stage.deliver_one(prepare)
    assert (follower.leader_log.matched, follower.state.committed) == (first + 1, first)
    assert follower.state.rolled_back_operations == 0


def test_a_dead_follower_of_three_leads_to_classic_rounds() -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.crash(2)
    for _ in range(3):
        handle = stage.call(client, b"x")
        stage.run(20 * MS)
        assert stage.results[handle] == b""
    assert replicas[0].detector.unresponsive == {2}
    assert replicas[0].fast_path.collisions == 0
    assert (replicas[0].view, replicas[0].state.committed) == (0, replicas[0].state.log.last)
    handle = stage.call(client, b"x")
    began = stage.now_ns
    stage.settle()
    assert stage.results[handle] == b""
    assert stage.now_ns == began, "nobody waits any more for the one that is gone"


@pytest.mark.parametrize("n", [3, 5])
def test_entries_committed_on_the_fast_path_survive_the_leader(n: int) -> None:
    """One of five has it at another position, and its log is one of the three that are merged."""
    stage, replicas = stage_of(n)
    clients = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    place(stage, clients, [[0, 1]] * 3 if n == 3 else [[0, 1], [1, 0], [0, 1], [0, 1], [0, 1]])
    stage.deliver(Accepted)
    assert replicas[0].state.committed == first + 1
    survive_without_the_leader(stage, first, [b"0", b"1"])


@pytest.mark.parametrize("n", [3, 5])
def test_entries_committed_in_a_classic_round_survive_the_leader(n: int) -> None:
    """All others agree on another order, but the followers of the round have matched the leader's."""
    stage, replicas = stage_of(n)
    clients = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    place(stage, clients, [[0, 1]] + [[1, 0]] * (n - 1))
    stage.deliver(Accepted)
    for follower in range(1, n // 2 + 1):
        stage.deliver(Prepare, to=follower)
    stage.deliver(PrepareOk)
    assert replicas[0].state.committed == first + 1
    survive_without_the_leader(stage, first, [b"0", b"1"])


def test_a_former_leaders_vote_has_its_whole_log_matched() -> None:
    """An entry that it committed with a follower that has crashed is only in its own log, which it never had to match."""
    stage, replicas = stage_of(3)
    clients = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    place(stage, clients, [[0, 1], [0, 1], [1, 0]])
    replicas[0].view_change.start(2, "scenario")
    stage.settle(keep=lambda flight: 1 not in (flight.source, flight.destination) and not isinstance(flight.message, DoViewChange))
    vote = replicas[0].view_change.vote
    assert vote is not None
    assert vote.matched == first + 1
    stage.run(100 * MS)
    assert all(operations(replica, first) == [b"0", b"1"] for replica in replicas)


def test_matched_entries_survive_the_restart_of_a_follower() -> None:
    """A round has committed them with this follower, which restarts. The other follower never heard of the leader's order."""
    stage, replicas = stage_of(3, durable=True)
    clients = open_sessions(stage, 2)
    first = replicas[0].state.log.last + 1
    place(stage, clients, [[0, 1], [1, 0], [1, 0]])
    stage.deliver(Accepted)
    stage.deliver(Prepare, to=1)
    stage.deliver(PrepareOk)
    assert replicas[0].state.committed == first + 1
    assert replicas[1].state.committed < first
    stage.crash(1)
    follower = cast(FastPaxosReplica, stage.restart(1))
    assert follower.leader_log.matched == first + 1
    survive_without_the_leader(stage, first, [b"0", b"1"])


def test_a_follower_that_ends_between_a_checkpoint_and_what_follows_comes_back() -> None:
    """The checkpoint is committed, so all entries before it are matched."""
    stage, replicas = stage_of(3, durable=True, limits=Limits(checkpoint_operations=8, max_transfer_bytes=100))
    (client,) = open_sessions(stage, 1)
    stage.crash(2)
    for number in range(27):
        handle = stage.call(client, b"%d" % number)
        stage.run(20 * MS)
        assert stage.results[handle] == b""
    follower = cast(FastPaxosReplica, stage.restart(2))
    assert (follower.view, follower.group.status) == (0, Status.NORMAL)
    for _ in range(1_000):
        if follower.transfer.checkpoints_installed:
            break
        stage.run(MS, keep=lambda flight: not (isinstance(flight.message, Entries) and flight.destination == 2))
    assert follower.transfer.checkpoints_installed == 1
    assert follower.state.committed < replicas[0].state.committed
    stage.crash(2)
    stage.lose(Entries, CheckpointChunk)
    follower = cast(FastPaxosReplica, stage.restart(2))
    assert follower.leader_log.matched >= follower.state.committed
    stage.run(200 * MS)
    assert follower.state.committed == replicas[0].state.committed
    assert follower.state.log.hash_at(follower.state.committed) == replicas[0].state.log.hash_at(follower.state.committed)


def test_a_request_that_the_leader_lost_is_forwarded_when_it_was_unordered_twice() -> None:
    stage, replicas = stage_of(3)
    one, two, three = open_sessions(stage, 3)
    first = replicas[0].state.log.last + 1
    for client, orders in ((one, [[], [0], [0]]), (two, [[0]] * 3), (three, [[0]] * 3)):
        place(stage, [client], orders)
        stage.deliver(Accepted)
        stage.deliver(Prepare)
        stage.deliver(PrepareOk)
    stage.deliver(Prepare)
    assert stage.waiting(Forward, to=0)
    stage.deliver(Forward)
    assert replicas[0].state.log.last == first + 2
    stage.run(20 * MS)
    assert all(sorted(operations(replica, first)) == [b"0"] * 3 for replica in replicas)
    assert all(replica.state.committed == first + 2 for replica in replicas)
