"""The exhaustive search: it reaches each reachable state once and finds planted bugs, and its reductions miss no violation."""

from __future__ import annotations

import pickle
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from toy import (
    AllMustAcknowledge,
    CannotBeCopied,
    CommitsNothing,
    FollowersTakeRequestsThemselves,
    ForgetsToUndo,
    RepliesAtOnce,
    ToyReplica,
    toy,
)

from stretto.core.errors import StrettoError
from stretto.core.node import Message
from stretto.core.protocol import ProtocolDefinition
from stretto.core.state_machine import encode
from stretto.exploration.bounds import Bounds
from stretto.exploration.nodes import CALL, LATE, TIMER, Actor
from stretto.exploration.schedule import confirmed
from stretto.exploration.search import Search
from stretto.exploration.world import World
from stretto.protocols.multipaxos import MULTIPAXOS
from stretto.protocols.nopaxos import NOPAXOS
from stretto.protocols.speculative import SPECULATIVE


def searched(world: World) -> Search:
    """All of it."""
    search = Search(world)
    for _ in search.run():
        pass
    return search


# A search with no table and no reduction, on copies of the nodes themselves


@dataclass
class Naive:
    """The nodes, and what was sent to each: (source, type, bytes) to the message."""

    actors: list[Actor]
    inboxes: list[dict[tuple[int, str, bytes], tuple[int, Message]]]
    timers: int = 0
    past: list[list[Any]] = field(default_factory=list)

    def key(self) -> bytes:
        return encode([[actor.key() for actor in self.actors], [sorted(inbox) for inbox in self.inboxes], self.timers, self.past])

    def after(self, world: World, index: int, event: tuple[str, object]) -> Naive:
        copy: Naive = pickle.loads(pickle.dumps(self))
        actor, (kind, what) = copy.actors[index], event
        port, node = actor.port, actor.node
        assert node is not None
        if kind == "message":
            node.on_message(*copy.inboxes[index][what])  # type: ignore[index]
        elif kind == "call":
            copy.past.append(["call", actor.calls[0], sorted(past[1] for past in copy.past if past[0] == "return")])
            actor.call()
        else:
            assert isinstance(what, str)
            port.timers.remove(what)
            port.now_ns += (kind == LATE) * 3_600_000_000_000
            copy.timers += 1
            node.on_timer(what)
        outbox, _, outcome = actor.take()
        if isinstance(outcome, bytes):
            copy.past.append(["return", self.actors[index].busy or b"", outcome])
        for destination, message in outbox:
            to = world.index_of(destination)
            if to is not None:
                copy.inboxes[to][port.address, type(message).__name__, encode(message)] = port.address, message
        for actor, inbox in zip(copy.actors, copy.inboxes, strict=True):
            if not actor.busy and not actor.calls and actor.port.address >= 3:
                inbox.clear()
        return copy

    def events(self, bounds: Bounds, index: int) -> list[tuple[str, object]]:
        actor = self.actors[index]
        timers = sorted(actor.port.timers) if self.timers < bounds.timers else []
        calls: list[tuple[str, object]] = [("call", "")] if actor.calls and not actor.busy else []
        return [*((kind, name) for name in timers for kind in (TIMER, LATE)), *calls, *(("message", key) for key in self.inboxes[index])]


def naively_reached(world: World) -> set[bytes]:
    actors = [pickle.loads(world.nodes.states[world.node(world.start, index)].pickled) for index in range(world.size)]
    start = Naive(actors, [{} for _ in actors])
    reached = {start.key()}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        for index in range(world.size):
            for event in state.events(world.bounds, index):
                after = state.after(world, index, event)
                if (key := after.key()) not in reached and (after.key() != state.key()):
                    reached.add(key)
                    waiting.append(after)
    return reached


@pytest.mark.parametrize(
    ("replica", "bounds"),
    [
        (ToyReplica, Bounds(clients=1, operations=1, timers=1)),
        (ToyReplica, Bounds(clients=1, operations=2, timers=0)),
        (AllMustAcknowledge, Bounds(clients=1, operations=2, timers=0)),
    ],
)
def test_as_many_states_as_a_naive_search(replica: type[ToyReplica], bounds: Bounds) -> None:
    world = World(toy(replica), bounds, reduce=False)
    search = searched(world)
    assert search.exhausted
    assert search.found is None
    assert search.states == len(naively_reached(world)) > 10


def outcomes(search: Search) -> set[tuple[object, ...]]:
    """What the checks see in all states that were reached."""
    return {(*search.world.replicas(state), search.world.past(state)) for state in search.reached()}


@pytest.mark.parametrize(
    ("definition", "bounds", "durable"),
    [
        (toy(), Bounds(clients=2, operations=2, timers=1), False),
        (toy(AllMustAcknowledge), Bounds(clients=2, operations=2, timers=0), False),
        (SPECULATIVE, Bounds(clients=1, operations=1, timers=1), False),
        (SPECULATIVE, Bounds(clients=2, operations=2, timers=0), False),
        (SPECULATIVE, Bounds(clients=1, operations=1, timers=0, crashes=2), True),
        (SPECULATIVE, Bounds(clients=1, operations=1, timers=0, checkpoints=1), False),
        (NOPAXOS, Bounds(clients=1, operations=1, timers=0, views=0, sequencers=1, stamps=1), False),
    ],
)
def test_the_reductions_lose_nothing_that_is_checked(definition: ProtocolDefinition, bounds: Bounds, durable: bool) -> None:
    whole = searched(World(definition, bounds, durable, reduce=False))
    reduced = searched(World(definition, bounds, durable))
    assert whole.exhausted
    assert reduced.exhausted
    assert outcomes(reduced) == outcomes(whole)
    assert reduced.states < whole.states


@pytest.mark.parametrize(
    ("replica", "bounds", "kind"),
    [
        (FollowersTakeRequestsThemselves, Bounds(), "commits differ"),
        (RepliesAtOnce, Bounds(), "not linearizable"),
        (ForgetsToUndo, Bounds(clients=1, operations=1), "state is not the log's"),
        (ToyReplica, Bounds(timers=0, crashes=1), "commits differ"),
    ],
)
@pytest.mark.parametrize("reduce", [True, False])
def test_planted_bugs_are_found(replica: type[ToyReplica], bounds: Bounds, kind: str, reduce: bool) -> None:
    search = searched(World(toy(replica), bounds, reduce=reduce))
    assert search.found is not None
    assert search.found.violation.kind == kind
    assert not search.exhausted
    _, played = confirmed(toy(replica), search.world, search.found)
    assert played.violation is not None
    assert played.violation.kind == kind


def test_a_world_of_the_real_protocol_is_exhausted() -> None:
    search = searched(World(SPECULATIVE, Bounds(clients=2, operations=2, timers=0)))
    assert search.exhausted
    assert search.found is None
    assert search.states > 2_000


def test_the_search_ends_at_max_states() -> None:
    search = Search(World(SPECULATIVE, Bounds()), max_states=500)
    for _ in search.run():
        pass
    assert not search.exhausted
    assert search.states < 5_000


def test_a_protocol_that_does_not_start() -> None:
    with pytest.raises(StrettoError, match="toy: the replicas did not commit the clients' first operations"):
        World(toy(CommitsNothing), Bounds())


def test_nodes_that_cannot_be_copied() -> None:
    with pytest.raises(StrettoError, match=r"CannotBeCopied cannot be copied: .*lambda"):
        World(toy(CannotBeCopied), Bounds())


def test_worlds_with_checkpoints_and_with_dropped_sessions() -> None:
    """Logs are compacted during the search; a client whose session the replicas have dropped gets no result."""
    search = searched(World(MULTIPAXOS, Bounds(operations=1, timers=0, checkpoints=1)))
    assert search.exhausted
    assert search.found is None
    assert any(facts is not None and facts.start > 0 for state in search.reached() for facts in search.world.replicas(state))
    dropping = World(SPECULATIVE, Bounds(clients=3, sessions=2, operations=3), remember=False, reduce=False)
    state = dropping.after(dropping.start, dropping.size - 3, CALL)
    assert state is not None
    for index in range(3):
        (request,) = dropping.inbox(state, index)
        state = dropping.after(state, index, request) or state
    for reply in sorted(dropping.inbox(state, dropping.size - 3)):
        state = dropping.after(state, dropping.size - 3, reply) or state
    assert dropping.busy(state, dropping.size - 3) is None
    assert dropping.past(state).accepted == ()
