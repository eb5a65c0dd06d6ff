"""What a transfer takes, piece by piece: only what follows what it has, and nothing at or below what is committed."""

from __future__ import annotations

from typing import cast

import pytest

from stretto.core.config import Limits
from stretto.core.state_machine import NullMachine
from stretto.protocols.multipaxos import MULTIPAXOS
from stretto.protocols.multipaxos.replica import MultiPaxosReplica
from stretto.protocols.speculative import SPECULATIVE
from stretto.replication.group import Status
from stretto.replication.messages import CheckpointChunk, Entries, EntriesCompacted, Fetch, Request
from stretto.replication.state import digest_of
from stretto.replication.transfer import Transfer
from stretto.testing.stage import Stage

STATE = b"0123456789"


def chunk(position: int, offset: int = 0, data: bytes = STATE[:5]) -> CheckpointChunk:
    return CheckpointChunk(position, b"h" * 16, 0, digest_of(STATE), len(STATE), offset, data)


def entries(first: int, count: int) -> Entries:
    return Entries(first, [Request(1, 2, number, 0, 0, b"") for number in range(first, first + count)])


def test_entries_must_follow_those_that_are_here_and_end_at_the_target() -> None:
    transfer = Transfer(10, 14, b"", 0)
    assert not transfer.add(entries(9, 2))
    assert not transfer.add(entries(11, 2))
    assert not transfer.add(entries(10, 0))
    assert not transfer.add(entries(10, 6))
    assert transfer.add(entries(10, 2))
    assert not transfer.add(entries(10, 2))
    assert transfer.question == Fetch(12, 14)
    assert transfer.add(entries(12, 2))
    assert not transfer.complete
    assert transfer.add(entries(14, 1))
    assert transfer.complete


@pytest.mark.parametrize("position", [8, 9, 11])
def test_a_checkpoint_of_what_is_here_already_is_not_taken(position: int) -> None:
    """Positions up to 9 are committed, and 10 and 11 have arrived as entries."""
    transfer = Transfer(10, 20, b"", 0)
    assert transfer.add(entries(10, 2))
    assert not transfer.add_checkpoint_chunk(chunk(position))
    assert transfer.download is None
    assert transfer.add_checkpoint_chunk(chunk(12))


def test_chunks_of_a_checkpoint_must_follow_each_other_and_end_with_it() -> None:
    transfer = Transfer(10, 20, b"", 0)
    assert not transfer.add_checkpoint_chunk(chunk(12, 5))
    assert transfer.add_checkpoint_chunk(chunk(12))
    assert not transfer.add_checkpoint_chunk(chunk(12))
    assert not transfer.add_checkpoint_chunk(chunk(12, 5, b""))
    assert not transfer.add_checkpoint_chunk(chunk(12, 5, b"567890"))
    assert not transfer.add(entries(10, 2))
    assert transfer.add_checkpoint_chunk(chunk(12, 5, STATE[5:]))
    assert transfer.download is not None
    assert transfer.download.complete
    assert transfer.download.verified


def test_a_newer_checkpoint_replaces_the_one_that_is_being_fetched_and_an_older_does_not() -> None:
    transfer = Transfer(10, 20, b"", 0)
    assert transfer.add_checkpoint_chunk(chunk(12))
    assert not transfer.add_checkpoint_chunk(chunk(11))
    assert transfer.add_checkpoint_chunk(chunk(13))
    assert transfer.download is not None
    assert (transfer.download.outline.position, len(transfer.download.state)) == (13, 5)
    other = CheckpointChunk(13, b"h" * 16, 0, digest_of(STATE[::-1]), len(STATE), 0, STATE[:4])  # the first may have been wrong
    assert transfer.add_checkpoint_chunk(other)
    assert len(transfer.download.state) == 4


def test_a_question_for_a_position_before_the_first_is_ignored() -> None:
    stage = Stage(MULTIPAXOS, 3, NullMachine)
    replica = stage.replicas[0]
    client = stage.client()
    stage.call(client, b"x")
    stage.settle()
    for first in (0, -1):
        replica.on_message(1, Fetch(first, 1))
    assert not stage.waiting(Entries)
    replica.on_message(1, Fetch(1, 1))
    assert len(stage.waiting(Entries)) == 1


def test_what_a_follower_has_matched_is_not_fetched_again() -> None:
    """A late answer to its question speaks of positions that it has compacted itself: nobody could give it those."""
    stage = Stage(MULTIPAXOS, 3, NullMachine, limits=Limits(checkpoint_operations=3))
    client = stage.client()
    for _ in range(12):
        stage.call(client, b"x")
        stage.settle()
    stage.fire(0, "heartbeat")
    stage.settle()
    follower = cast(MultiPaxosReplica, stage.replicas[1])
    assert follower.state.log.start > 1
    follower.on_message(2, Fetch(follower.state.log.start, follower.state.committed))
    assert stage.deliver(CheckpointChunk, to=2) == 1
    follower.on_message(0, EntriesCompacted(follower.group.incarnations, 0, follower.state.log.start - 1, b"?" * 16))
    assert follower.group.status is Status.NORMAL
    assert follower.transfer.current is None


def test_only_committed_entries_are_given() -> None:
    stage = Stage(SPECULATIVE, 3, NullMachine)
    client = stage.client()
    stage.call(client, b"x")
    stage.run(100_000_000)
    replica = stage.replicas[1]
    committed = replica.state.committed
    stage.call(client, b"y")
    stage.deliver(Request)
    assert replica.state.log.last == committed + 1
    replica.on_message(2, Fetch(committed + 1, committed + 1))
    assert not stage.waiting(Entries)
    replica.on_message(2, Fetch(committed, committed + 5))
    (flight,) = stage.waiting(Entries, to=2)
    assert len(cast(Entries, flight.message).entries) == 1
