"""Checkpoints: memory stays bounded, and a replica that lacks compacted entries gets a checkpoint instead."""

from __future__ import annotations

from typing import Any, cast

import pytest
from acting import MS, open_sessions

from stretto.apps.kv import KeyValueStore
from stretto.core.config import Limits
from stretto.core.node import Client
from stretto.protocols.speculative import SPECULATIVE
from stretto.protocols.speculative.replica import SpeculativeReplica
from stretto.replication.messages import CheckpointChunk, Entries, Fetch, FetchCheckpoint, Request
from stretto.services.service import ServiceCodec, ServiceMachine
from stretto.testing.stage import InFlight, Stage

KV = ServiceCodec(KeyValueStore)
INTERVAL = 10


def machine() -> ServiceMachine:
    return ServiceMachine(KeyValueStore)


def stage_of(n: int, **limits: int) -> tuple[Stage, list[SpeculativeReplica], Client]:
    limits = {"checkpoint_operations": INTERVAL, "max_transfer_bytes": 40} | limits
    stage = Stage(SPECULATIVE, n, machine, limits=Limits(**limits))
    (client,) = open_sessions(stage, 1)
    return stage, cast(list[SpeculativeReplica], stage.replicas), client


def put(stage: Stage, client: Client, count: int, keep: Any = lambda flight: True) -> None:
    for _ in range(count):
        handle = stage.call(client, KV.encode("put", (b"key-%d" % (len(stage.results) % 7), b"x" * 20)))
        for _ in range(20):
            stage.run(20 * MS, keep)
            if handle in stage.results:
                break
        assert isinstance(stage.results[handle], bytes)


def test_checkpoints_compact_the_log() -> None:
    stage, replicas, client = stage_of(3)
    put(stage, client, 8 * INTERVAL)
    for replica in replicas:
        checkpoint = replica.state.checkpoint
        assert checkpoint is not None
        assert replica.state.log.last - replica.state.log.start < 3 * INTERVAL
        assert checkpoint == replicas[0].state.checkpoint, "equal logs make equal checkpoints"
        assert replica.state.replayed_on(machine()) == replica.state.snapshot()


def test_a_large_state_is_checkpointed_less_often() -> None:
    stage, (r0, *_), client = stage_of(3)
    handle = stage.call(client, KV.encode("put", (b"large", b"x" * 20_000)))
    stage.run(20 * MS)
    assert isinstance(stage.results[handle], bytes)
    put(stage, client, 3 * INTERVAL)
    assert r0.state.checkpoint is not None
    assert r0.state.checkpoint.position == INTERVAL


def test_a_replica_that_was_down_for_long_gets_a_checkpoint_while_the_others_go_on() -> None:
    stage, (r0, _, r2), client = stage_of(3)
    stage.crash(2)
    stage.run(200 * MS)
    put(stage, client, 6 * INTERVAL)
    r2 = cast(SpeculativeReplica, stage.restart(2))
    put(stage, client, INTERVAL)
    assert r2.group.in_service
    assert r2.transfer.checkpoints_installed >= 1
    assert r2.state.snapshot() == r0.state.snapshot()
    assert r2.state.log.hash_at(r2.state.log.last) == r0.state.log.hash_at(r0.state.log.last)


def test_a_follower_that_missed_much_in_its_view_repairs_by_checkpoint() -> None:
    """Of five replicas, the superquorum does not need this follower, so there is no reconciliation."""
    stage, (r0, *_, r4), client = stage_of(5)
    put(stage, client, 5 * INTERVAL, lambda flight: flight.destination != 4)
    assert r4.state.log.last < INTERVAL
    stage.settle()
    put(stage, client, 2)
    assert r4.transfer.checkpoints_installed == 1
    assert r4.state.log.hash_at(r4.state.log.last) == r0.state.log.hash_at(r0.state.log.last)
    assert r0.view == r4.view == 0


def lagging() -> tuple[Stage, SpeculativeReplica]:
    """A replica that recovers and needs a checkpoint of many chunks. None has arrived yet."""
    stage, _, client = stage_of(3)
    stage.crash(2)
    stage.run(200 * MS)
    put(stage, client, 4 * INTERVAL)
    replica = cast(SpeculativeReplica, stage.restart(2))
    stage.settle(lambda flight: not isinstance(flight.message, CheckpointChunk))
    assert replica.transfer.current is not None
    return stage, replica


def test_a_download_goes_on_at_another_replica() -> None:
    stage, r2 = lagging()
    offsets: list[int] = []

    def from_each_in_turn(flight: InFlight) -> bool:
        """Each of the two others stops answering after two chunks."""
        if isinstance(flight.message, CheckpointChunk):
            if len(offsets) in (2, 5):
                offsets.append(-1)
                return False
            offsets.append(flight.message.offset)
        return True

    stage.run(500 * MS, from_each_in_turn)
    assert r2.group.in_service
    taken = [offset for offset in offsets if offset >= 0]
    assert taken == sorted(set(taken)), "no byte was sent twice"
    assert offsets.count(-1) == 2


def test_over_a_slow_link_few_chunks_are_sent_twice() -> None:
    """Each chunk takes several retransmission intervals. To ask again meanwhile fills the link with copies."""
    stage, r2 = lagging()
    link: list[InFlight] = []
    sent: list[int] = []

    def others_than_chunks(flight: InFlight) -> bool:
        if isinstance(flight.message, CheckpointChunk):
            link.append(flight)
            sent.append(flight.message.offset)
        return not isinstance(flight.message, CheckpointChunk)

    while not r2.transfer.checkpoints_installed and len(sent) < 1_000:
        stage.run(70 * MS, others_than_chunks)
        if link:
            flight = link.pop(0)
            r2.on_message(flight.source, flight.message)
    assert r2.transfer.checkpoints_installed == 1
    assert len(set(sent)) > 5
    assert len(sent) <= len(set(sent)) + 6  # those by which it learned how slow the link is


@pytest.mark.parametrize("change", ["data", "size", "digest"])
def test_a_checkpoint_with_a_wrong_digest_is_not_installed(change: str) -> None:
    stage, r2 = lagging()
    transfer = r2.transfer.current
    assert transfer is not None
    spoiled = 0

    def spoil(flight: InFlight) -> bool:
        nonlocal spoiled
        chunk = flight.message
        if isinstance(chunk, CheckpointChunk) and chunk.offset == 0 and not spoiled:
            spoiled += 1
            fields = {name: getattr(chunk, name) for name in chunk.__struct_fields__}
            fields |= {"data": b"?" * len(chunk.data)} if change == "data" else {}
            fields |= {"size": len(chunk.data), "digest": b"?" * 16} if change == "digest" else {}
            fields |= {"size": chunk.size + 7} if change == "size" else {}
            r2.on_message(flight.source, CheckpointChunk(**fields))
            return False
        return True

    stage.run(500 * MS, spoil)
    assert spoiled
    assert r2.group.in_service
    assert r2.state.snapshot() == stage.replicas[0].state.snapshot()


def test_a_checkpoint_that_is_gone_is_answered_with_the_newest() -> None:
    stage, (r0, *_), client = stage_of(3)
    put(stage, client, 3 * INTERVAL)
    former = r0.state.checkpoint
    assert former is not None
    put(stage, client, 2 * INTERVAL)
    newest = r0.state.checkpoint
    assert newest is not None
    r0.on_message(1, FetchCheckpoint(former.position, b"?" * 16, 40))
    (chunk,) = (flight.message for flight in stage.waiting(CheckpointChunk))
    assert isinstance(chunk, CheckpointChunk)
    assert (chunk.position, chunk.offset, chunk.data) == (newest.position, 0, newest.state[:40])


def test_senseless_requests_for_checkpoints_are_ignored() -> None:
    stage, (r0, *_), client = stage_of(3)
    r0.on_message(1, FetchCheckpoint(3, b"", 0))
    put(stage, client, 3 * INTERVAL)
    r0.on_message(1, Fetch(r0.state.committed + 1, r0.state.committed + 5))
    r0.on_message(1, Fetch(5, 4))
    r0.on_message(1, CheckpointChunk(1, b"", 0, b"", 1, 0, b"x"))
    assert not stage.waiting(CheckpointChunk)
    assert r0.group.ignored["asks for a checkpoint that is not here"] == 1
    assert r0.group.ignored["asks for entries that are not committed here"] == 2
    assert r0.group.ignored["a checkpoint that was not asked for"] == 1


def test_a_checkpoint_that_our_log_agrees_with_is_not_installed() -> None:
    """It would drop, until they are fetched again, entries after it with which the view started or that have completed."""
    stage, (r0, *_, r4), client = stage_of(5)
    first = r4.state.committed

    def without_commits(flight: InFlight) -> bool:
        return flight.destination != 4 or isinstance(flight.message, Request)

    put(stage, client, 24 - r4.state.log.last, without_commits)
    put(stage, client, 5, lambda flight: flight.destination != 4)
    assert (r4.state.committed, r4.state.log.last, r0.state.committed) == (first, 24, 29)
    assert r0.state.checkpoint is not None
    assert first < r0.state.log.start < r0.state.checkpoint.position == 20
    stage.run(100 * MS, lambda flight: not isinstance(flight.message, Entries))
    assert (r4.state.committed, r4.state.log.last) == (20, 24)
    assert r4.transfer.checkpoints_installed == 0
    put(stage, client, 1)
    stage.run(200 * MS)
    assert r4.state.log.hash_at(r4.state.log.last) == r0.state.log.hash_at(r0.state.log.last)


def test_speculative_entries_are_not_sent_in_a_transfer() -> None:
    stage, (r0, *_), client = stage_of(3)
    put(stage, client, 2)
    stage.call(client, KV.encode("put", (b"key", b"x")))
    stage.deliver(Request, to=0)
    stage.lose()
    assert r0.state.log.last == r0.state.committed + 1
    r0.on_message(1, Fetch(r0.state.log.last, r0.state.log.last))
    assert not stage.waiting(Entries)
    r0.on_message(1, Fetch(r0.state.committed, r0.state.log.last))
    (chunk,) = stage.waiting(Entries)
    assert isinstance(chunk.message, Entries)
    assert len(chunk.message.entries) == 1
