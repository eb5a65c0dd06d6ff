"""Replicas whose states differ though their logs are equal: no client believes one of them, and the one that f+1 contradict stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from acting import MS

from stretto import catalog
from stretto.core.config import Limits
from stretto.core.errors import StrettoError
from stretto.core.node import Client
from stretto.core.state_machine import FAILURE, Undo, comparable
from stretto.protocols.adaptive import ADAPTIVE
from stretto.replication.messages import CheckpointChunk, CompareOutcomes, Outcomes, Request, StateDigest
from stretto.replication.outcomes import independent_votes
from stretto.replication.replica import Replica
from stretto.testing.stage import InFlight, Stage

PROTOCOLS = [name for name in catalog.protocol_names() if name != "unreplicated"]


class Counter:
    """Counts. `wrong` is added to what it answers: a state, or code, that no other replica has."""

    def __init__(self, wrong: int = 0) -> None:
        self.count = 0
        self.wrong = wrong

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        self.count += 1
        return b"%d" % (self.count + self.wrong), 1

    def undo(self, undo: Undo) -> None:
        self.count -= 1

    def snapshot(self) -> bytes:
        return b"%d" % self.count

    def restore(self, snapshot: bytes) -> None:
        self.count = int(snapshot)


def stage_of(name: str, n: int = 3, **limits: int) -> tuple[Stage, list[Replica], Client]:
    stage = Stage(catalog.protocol(name), n, Counter, limits=Limits(**limits))
    client = stage.client()
    stage.call(client, b"first")
    stage.run(50 * MS)
    return stage, cast(list[Replica], stage.replicas), client


def damage(replica: Replica, wrong: int = 100) -> None:
    """From now on, its results differ."""
    machine: Any = replica.state.machine
    machine._machine.wrong = wrong


def flip(replica: Replica) -> None:
    """Flip a bit that shows in snapshots, and in no result."""
    machine = cast(Any, replica.state.machine)._machine
    machine.snapshot = lambda: b"%d" % (machine.count + 1_000)


def call(stage: Stage, client: Client, duration_ns: int = 2_000 * MS, keep: Callable[[InFlight], bool] = lambda flight: True) -> Any:
    handle = stage.call(client, b"x")
    stage.run(duration_ns, keep)
    return stage.results.get(handle)


def stopped(stage: Stage) -> dict[int, str]:
    return {address: details["reason"] for address, event, details in stage.reports if event == "stopped"}


@pytest.mark.parametrize("odd", [0, 1, 2])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_one_that_differs_is_not_believed_and_stops(name: str, odd: int) -> None:
    stage, replicas, client = stage_of(name)
    damage(replicas[odd])
    results = [call(stage, client) for _ in range(3)]
    assert b"102" not in results, "the answer of one replica alone"
    assert results[-1] == b"%d" % (4 if b"2" in results else 3 if b"3" in results else 4)
    assert list(stopped(stage)) == [odd]
    reason = stopped(stage)[odd]
    assert f"the state of replica {odd} differs from that of replicas" in reason
    assert "at position 3 " in reason
    assert "operation b'x' gave b'102' here and b'2' there" in reason


@pytest.mark.parametrize("name", PROTOCOLS)
def test_nobody_stops_without_a_majority(name: str) -> None:
    """Two of three are left, and they differ: either may be right. No client is answered by one of them, and both go on running."""
    stage, replicas, client = stage_of(name)
    stage.crash(2)
    damage(replicas[1])
    result = call(stage, client, 8_000 * MS)
    assert result is None or isinstance(result, StrettoError)
    assert stopped(stage) == {}
    assert {event for _, event, _ in stage.reports} >= {"outcomes differ"}


@pytest.mark.parametrize("name", ["speculative", "adaptive"])
def test_the_first_position_at_which_they_differ_is_found(name: str) -> None:
    """Nothing compares the two until much later: the follower was cut off from the leader."""
    stage, replicas, client = stage_of(name, sync_operations=100_000)
    damage(replicas[2])
    for _ in range(200):
        handle = stage.call(client, b"x")
        stage.deliver(Request)
        while handle not in stage.results and stage.in_flight:
            stage.deliver_one(stage.in_flight[0])
        if handle not in stage.results:
            break
    stage.run(2_000 * MS)
    assert "at position 3 " in stopped(stage)[2]


def test_the_copy_of_a_damaged_state_is_no_second_voter() -> None:
    """r1's state is damaged where no result has shown it yet; r2 has lost its own, and copies r1's. r0 must not stop."""
    stage, replicas, client = stage_of("adaptive", checkpoint_operations=5)
    while replicas[1].state.log.last < 10:
        call(stage, client, 50 * MS)
    checkpoint = replicas[1].state.checkpoint
    assert checkpoint is not None
    assert checkpoint.position == 10 == replicas[1].state.log.last
    image = msgspec.msgpack.decode(checkpoint.state)
    image[1] = b"%d" % (int(image[1]) + 1_000)
    replicas[1].state.checkpoint = msgspec.structs.replace(checkpoint, state=msgspec.msgpack.encode(image))
    cast(Any, replicas[1].state.machine)._machine.count += 1_000
    stage.crash(2)
    stage.restart(2)
    stage.run(500 * MS, lambda flight: flight.source != 0 or not isinstance(flight.message, CheckpointChunk))
    r2 = cast(Replica, stage.replicas[2])
    assert r2.group.in_service
    assert r2.transfer.copied_from == 1
    call(stage, client, 5_000 * MS)
    assert 0 not in stopped(stage)


def test_neither_is_it_one_when_checkpoints_are_compared() -> None:
    """r0's state has a flipped bit that no result shows. r2 has copied it, so their next checkpoints are equal. r1 is right."""
    stage, replicas, client = stage_of("adaptive", checkpoint_operations=5)
    while replicas[0].state.log.last < 10:
        call(stage, client, 50 * MS)
    flip(replicas[0])
    stage.crash(2)
    stage.restart(2)
    stage.run(500 * MS, lambda flight: flight.source != 1 or not isinstance(flight.message, CheckpointChunk))
    r2 = cast(Replica, stage.replicas[2])
    assert r2.transfer.copied_from == 0
    flip(r2)
    while replicas[1].state.log.last < 15:
        call(stage, client, 100 * MS)
    stage.run(200 * MS)
    assert stopped(stage) == {}


def test_the_votes_of_copies_of_copies() -> None:
    values = dict.fromkeys(range(5), "x")
    alone = {member: member for member in range(5)}
    assert independent_votes(values, alone)["x"] == 5
    assert independent_votes(values, alone | {1: 0, 2: 1, 3: 2})["x"] == 2
    assert independent_votes(values, alone | {0: 1, 1: 0})["x"] == 4, "each has copied from the other, at different times"
    assert independent_votes(values | {0: "y"}, alone | {1: 0})["x"] == 4, "a copy that has come to differ from its source"
    assert independent_votes(values, alone | {1: 77, 2: -1})["x"] == 5


def test_a_copy_stays_one_when_it_is_started_again() -> None:
    stage = Stage(ADAPTIVE, 3, Counter, durable=True, limits=Limits(checkpoint_operations=5))
    client = stage.client()
    for _ in range(12):
        call(stage, client, 50 * MS)
    stage.crash(2)
    stage.ports[2].records = []
    stage.restart(2)
    stage.run(500 * MS)
    copied_from = cast(Replica, stage.replicas[2]).transfer.copied_from
    assert copied_from != 2
    for _ in range(2):
        stage.ports[2].compact(cast(Replica, stage.replicas[2]).records())
        stage.crash(2)
        stage.restart(2)
        assert cast(Replica, stage.replicas[2]).transfer.copied_from == copied_from
    for _ in range(12):
        call(stage, client, 50 * MS)
    assert cast(Replica, stage.replicas[2]).transfer.copied_from == 2, "the third replica has taken equal checkpoints"


def test_a_leader_that_was_contradicted_and_goes_on_is_replaced_again() -> None:
    stage, replicas, _ = stage_of("adaptive")
    r1 = replicas[1]
    r1.outcomes.differing = {0: r1.group.incarnations[0]}
    r1.outcomes.begin_view()
    stage.fire(1, "outcomes")
    assert 1 in r1.detector.suspects
    del r1.detector.suspects[1]
    r1.outcomes.differing = {0: 7}
    stage.fire(1, "leader")
    r1.outcomes.on_timer()
    assert 1 not in r1.detector.suspects, "it has been started again since"


def test_a_state_that_no_result_shows_is_found_at_the_next_checkpoint() -> None:
    stage, replicas, client = stage_of("adaptive", checkpoint_operations=10)
    machine = cast(Any, replicas[2].state.machine)._machine
    machine.snapshot = lambda: b"flipped"
    for _ in range(12):
        call(stage, client, 50 * MS)
    assert list(stopped(stage)) == [2]
    assert "at position 10 differs from that of replicas 0 and 1, though all results were equal so far" in stopped(stage)[2]


def test_a_disk_of_a_state_that_differs_is_not_used_again() -> None:
    stage = Stage(ADAPTIVE, 3, Counter, durable=True)
    client = stage.client()
    stage.call(client, b"first")
    stage.run(50 * MS)
    damage(cast(Replica, stage.replicas[2]))
    call(stage, client)
    assert list(stopped(stage)) == [2]
    assert stage.ports[2].records == []
    stage.restart(2)
    stage.run(500 * MS)
    assert stage.replicas[2].metrics()["in_service"]
    assert call(stage, client) == b"3"


def test_nonsense_about_outcomes_is_ignored() -> None:
    stage, (r0, *_), _ = stage_of("adaptive")
    known, summary = r0.group.incarnations, r0.state.log.last_hash
    last = r0.state.log.last
    for positions in ((), (3, 2), (2, 2), tuple(range(1, 40))):
        r0.on_message(1, CompareOutcomes(known, positions, summary))
    r0.on_message(1, CompareOutcomes(known, (1 << 40, 1 << 41), summary))
    r0.on_message(1, Outcomes(known, (last,), summary, (), 1, None))
    r0.on_message(1, StateDigest(known, 1 << 40, b"", b"", 9))
    r0.check_invariants()
    assert stopped(stage) == {}


def test_the_texts_of_undeclared_failures_are_not_compared() -> None:
    texts = [FAILURE + msgspec.msgpack.encode(("OperationFailed", text)) for text in ("KeyError: 1", "KeyError: '1'")]
    assert comparable(texts[0]) == comparable(texts[1])
    declared = [FAILURE + msgspec.msgpack.encode(("NotANumber", text)) for text in ("one", "two")]
    assert comparable(declared[0]) != comparable(declared[1])
    assert comparable(FAILURE + b"\xff") == FAILURE + b"\xff"
