"""The world that is explored: all nodes, the messages sent, the history, and the possible next events.

**The network forgets nothing.** A message may arrive at any time, several times, or never. So loss, duplication and reordering are not
steps of their own and have no bounds. The same holds for a replica that stops for good: it takes no further step.

Two reductions, both sound for the checks after each step:

**Silent steps are deferred.** A step that sends nothing, and changes nothing that a check can see (a vote that is counted, and is not the
last one needed), commutes with every step of every other node, and stays possible later. So every execution has an equivalent one in which
each silent step is deferred until right before the next step of its node that is not silent, or left out if there is none. A *move*
consists of silent steps of one node, and then one that is not silent. States inside a move are not states of the world.

**Replies that change nothing are sent at once.** If a message does not change its node and makes it send something, then the search may
treat the reply as sent already: it need not arrive. The state with the reply allows everything that the state without it allows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from stretto.core.errors import StrettoError
from stretto.core.node import Address
from stretto.core.protocol import ProtocolDefinition
from stretto.exploration.bounds import Bounds
from stretto.exploration.checks import Answer, Facts, Past, with_call, with_facts, with_return
from stretto.exploration.nodes import CALL, CLIENT_BASE, RESTART, TIMER, Event, MessageId, NodeTable, OwnEvent, StateId, Step
from stretto.verify.violation import Violation

State: TypeAlias = tuple[int, ...]
"""The place of each node; then how many timers have fired, how many nodes have crashed, and the past. Places and past are numbers in the
world's tables."""

_TIMERS, _CRASHES, _PAST = -3, -2, -1
_WARM_UP_ROUNDS = 50


Sendings: TypeAlias = tuple[tuple[int, frozenset[MessageId]], ...]
"""Messages by the index of the node that they are for."""


class Place(NamedTuple):
    """A node and the messages that may arrive at it."""

    state: StateId
    inbox: frozenset[MessageId]


class Move(NamedTuple):
    """Silent events of one node, and a last one that is not silent. `sent`: messages by the destination's index.

    `timers`, `crashes`: how much of the bounds it uses up; `notable`: whether the checks have something to look at.
    """

    events: tuple[Event, ...]
    after: StateId
    sent: Sendings
    timers: int
    crashes: int
    notable: bool
    answer: Answer | None
    violation: Violation | None


class World:
    """The nodes of a protocol within bounds, after a start without faults.

    At the start all replicas come into service, each client opens a session with one operation, and all operations are committed; then
    the messages sent until then are dropped.

    Parameters: `durable`, whether replicas have a disk; `remember`: see `NodeTable`; `reduce`: whether the two
    reductions are used. Raises StrettoError if the protocol does not complete the start.
    """

    def __init__(
        self, definition: ProtocolDefinition, bounds: Bounds, durable: bool = False, *, remember: bool = True, reduce: bool = True
    ) -> None:
        self.bounds = bounds
        self.durable = durable
        self.size = bounds.members + bounds.clients
        self.nodes = NodeTable(definition, bounds.config(definition.name), durable)
        self.cut = 0
        """How many moves were not taken because of the bounds on views and stamps."""
        self._reduce = reduce
        self._places: list[Place] = []
        self._place_ids: dict[Place, int] = {}
        self._pasts: list[Past] = []
        self._past_ids: dict[Past, int] = {}
        self._received: dict[tuple[int, frozenset[MessageId]], int] = {}
        self._moves: dict[tuple[int, int, int], list[Move]] = {}
        self._replies: dict[int, Sendings] = {}
        self._seen_facts: dict[tuple[int, StateId], int] = {}
        self._most_stamped = 1 << 62
        self.start = self._begin(definition)
        self._most_stamped = bounds.stamps + max(self.nodes.states[self.node(self.start, index)].stamped for index in range(self.size))
        self.nodes.remember = remember

    # What may happen

    def moves(self, state: State) -> Iterator[tuple[int, Move]]:
        """The moves of all nodes, each with the index of its node."""
        timers, crashes = self.bounds.timers - state[_TIMERS], self.bounds.crashes - state[_CRASHES]
        for index, place in enumerate(state[:_TIMERS]):
            key = (place, timers, crashes)
            moves = self._moves.get(key)
            if moves is None:
                moves = self._moves[key] = list(self._moves_at(place, timers, crashes))
            for move in moves:
                yield index, move

    def events(self, state: State, index: int) -> list[Event]:
        """What may happen to one node next, whether that changes anything or not."""
        timers, crashes = self.bounds.timers - state[_TIMERS], self.bounds.crashes - state[_CRASHES]
        return self._events_at(self._places[state[index]], timers, crashes)

    def own_events(self, state: State, index: int) -> list[OwnEvent]:
        """The events of a node that are not messages."""
        return [event for event in self.events(state, index) if not isinstance(event, int)]

    def after(self, state: State, index: int, event: Event) -> State | None:
        """The state after a single event of a node; None if it changes nothing. Raises Violation."""
        before = self._places[state[index]].state
        step = self.nodes.step(before, event)
        if step is None:
            return None
        return self.successor(state, index, self._move((event,), before, step, *_spent(event)))

    def within_bounds(self, state: State) -> bool:
        """Whether no replica has reached a view above the bound, and no sequencer a number above it."""
        nodes = [self.nodes.states[self.node(state, index)] for index in range(self.size)]
        return all((node.facts is None or node.facts.view <= self.bounds.views) and node.stamped <= self._most_stamped for node in nodes)

    def successor(self, state: State, index: int, move: Move) -> State:
        """The state after a move; `state` itself if the move only uses up bounds. Raises Violation if a check fails."""
        if move.violation is not None:
            raise move.violation
        after = list(state)
        after[index] = self._place(move.after, self._places[state[index]].inbox)
        for destination, messages in move.sent:
            after[destination] = self._receive(after[destination], messages)
        if move.notable:
            after[_PAST] = self._next_past(after, self._places[state[index]].state, move)
        if self._reduce:
            self._reply(after, {index, *(destination for destination, _ in move.sent)})
        if tuple(after) == state:
            return state
        after[_TIMERS] += move.timers
        after[_CRASHES] += move.crashes
        return tuple(after)

    def _reply(self, state: list[int], changed: set[int]) -> None:
        """Let all nodes send the replies that do not change them. The nodes in `changed` have taken a step or can receive new messages."""
        while changed:
            index = changed.pop()
            for destination, messages in self._replies_at(state[index]):
                former = state[destination]
                state[destination] = self._receive(former, messages)
                if state[destination] != former:
                    changed.add(destination)

    def _replies_at(self, number: int) -> Sendings:
        replies = self._replies.get(number)
        if replies is None:
            place = self._places[number]
            steps = (self.nodes.step(place.state, event) for event in place.inbox)
            sent = [step.sent for step in steps if step is not None and step.after == place.state]
            replies = self._replies[number] = self._by_destination(message for messages in sent for message in messages)
        return replies

    def _events_at(self, place: Place, timers: int, crashes: int) -> list[Event]:
        own = self.nodes.states[place.state].own
        allowed: list[Event] = [event for event in own if event == CALL or (crashes if event == RESTART else timers)]
        return [*allowed, *sorted(place.inbox)]

    def _moves_at(self, number: int, timers: int, crashes: int) -> Iterator[Move]:
        """The moves of a node at a place, with that much left of the bounds; shorter ones first."""
        place = self._places[number]
        waiting: deque[tuple[StateId, int, int, tuple[Event, ...]]] = deque([(place.state, 0, 0, ())])
        silent = {(place.state, 0, 0)}
        found = set()
        while waiting:
            state, fired, crashed, events = waiting.popleft()
            for event in self._events_at(Place(state, place.inbox), timers - fired, crashes - crashed):
                step = self.nodes.step(state, event)
                if step is None:
                    continue
                if self._leaves_bounds(step):
                    self.cut += 1
                    continue
                timer, crash = _spent(event)
                move = self._move((*events, event), state, step, fired + timer, crashed + crash)
                if self._reduce and not (move.sent or move.notable):
                    reached = (step.after, move.timers, move.crashes)
                    if reached not in silent:
                        silent.add(reached)
                        waiting.append((*reached, move.events))
                elif (what := move._replace(events=())) not in found:
                    found.add(what)
                    yield move

    def _leaves_bounds(self, step: Step) -> bool:
        if step.violation is not None:
            return False
        state = self.nodes.states[step.after]
        return (state.facts is not None and state.facts.view > self.bounds.views) or state.stamped > self._most_stamped

    def _move(self, events: tuple[Event, ...], before: StateId, step: Step, timers: int, crashes: int) -> Move:
        if step.violation is not None:
            return Move(events, -1, (), timers, crashes, True, None, step.violation)
        states = self.nodes.states
        notable = states[before].facts != states[step.after].facts or step.answer is not None or events[-1] == CALL
        return Move(events, step.after, self._by_destination(step.sent), timers, crashes, notable, step.answer, None)

    def _by_destination(self, messages: Iterable[MessageId]) -> Sendings:
        by_destination: dict[int, list[MessageId]] = {}
        for message in messages:
            index = self.index_of(self.nodes.messages[message].destination)
            if index is not None:
                by_destination.setdefault(index, []).append(message)
        return tuple((index, frozenset(by_destination[index])) for index in sorted(by_destination))

    def index_of(self, address: Address) -> int | None:
        """The index in a state of the node with this address; None if there is no such node."""
        if address < self.bounds.members:
            return address
        number = address - CLIENT_BASE
        return self.bounds.members + number if 0 <= number < self.bounds.clients else None

    def address_of(self, index: int) -> Address:
        """The address of the node with this index in a state."""
        return index if index < self.bounds.members else CLIENT_BASE + index - self.bounds.members

    def replies(self, state: State) -> Iterator[tuple[int, Event]]:
        """The events that change no node but make it send a new message, one after the other."""
        waiting = True
        while waiting:
            waiting = False
            for index in range(len(state) + _TIMERS):
                at, inbox = self._places[state[index]]
                for event in sorted(inbox):
                    step = self.nodes.step(at, event)
                    if step is not None and step.after == at and (after := self.after(state, index, event)) not in (None, state):
                        yield index, event
                        assert after is not None
                        state, waiting = after, True

    # Tables

    def busy(self, state: State, index: int) -> bytes | None:
        """The operation that a client waits for."""
        return self.nodes.states[self.node(state, index)].busy

    def calls(self, state: State, index: int) -> tuple[bytes, ...]:
        """The operations that a client has yet to call."""
        return self.nodes.states[self.node(state, index)].calls

    def inbox(self, state: State, index: int) -> frozenset[MessageId]:
        """The messages that may arrive at a node."""
        return self._places[state[index]].inbox

    def node(self, state: State, index: int) -> StateId:
        """The state of one node."""
        return self._places[state[index]].state

    def past(self, state: State) -> Past:
        """The history."""
        return self._pasts[state[_PAST]]

    def replicas(self, state: State) -> list[Facts | None]:
        """The facts about each replica; None for one that stopped itself."""
        return [self.nodes.states[self.node(state, index)].facts for index in range(self.bounds.replicas)]

    def _place(self, state: StateId, inbox: frozenset[MessageId]) -> int:
        place = Place(state, frozenset() if self.nodes.states[state].deaf else inbox)
        number = self._place_ids.get(place)
        if number is None:
            number = self._place_ids[place] = len(self._places)
            self._places.append(place)
        return number

    def _receive(self, number: int, messages: frozenset[MessageId]) -> int:
        key = (number, messages)
        place = self._received.get(key)
        if place is None:
            state, inbox = self._places[number]
            place = self._received[key] = self._place(state, inbox | messages)
        return place

    def _intern_past(self, past: Past) -> int:
        number = self._past_ids.get(past)
        if number is None:
            number = self._past_ids[past] = len(self._pasts)
            self._pasts.append(past)
        return number

    def _next_past(self, after: list[int], before: StateId, move: Move) -> int:
        states, number = self.nodes.states, after[_PAST]
        facts = states[move.after].facts
        if facts is not None:
            key = (number, move.after)
            if key not in self._seen_facts:
                self._seen_facts[key] = self._intern_past(with_facts(self._pasts[number], facts))
            return self._seen_facts[key]
        past = self._pasts[number]
        if move.events[-1] == CALL:
            past = with_call(past, states[before].calls[0])
        if move.answer is not None:
            operation = past.begun[-1][0] if move.events[-1] == CALL else states[before].busy
            assert operation is not None
            replicas = (facts for facts in self.replicas(tuple(after)) if facts is not None)
            past = with_return(past, operation, move.answer, replicas)
        return self._intern_past(past)

    # The beginning

    def _begin(self, definition: ProtocolDefinition) -> State:
        bounds, nodes = self.bounds, self.nodes
        names = [bytes([ord("a") + number]) for number in range(bounds.operations)]
        current: list[StateId] = []
        sent: deque[MessageId] = deque()

        def take(index: int, step: Step | None) -> None:
            if step is None:
                return
            if step.violation is not None:
                raise StrettoError(f"{definition.name}: before anything goes wrong: {step.violation}")
            current[index : index + 1] = [step.after]
            sent.extend(step.sent)

        def settle() -> None:
            while sent:
                message = sent.popleft()
                index = self.index_of(nodes.messages[message].destination)
                if index is not None:
                    take(index, nodes.step(current[index], message))

        for index in range(bounds.replicas):
            take(index, nodes.first_replica(index))
        for address in range(bounds.replicas, bounds.members):
            take(address, nodes.first_sequencer(address))
        for number in range(bounds.clients):
            warm_up = b"%d" % number
            take(bounds.members + number, nodes.first_client(number, [warm_up, *names[number :: bounds.clients]]))
        settle()
        for index in range(bounds.members, self.size):
            take(index, nodes.step(current[index], CALL))
            settle()
        for _ in range(_WARM_UP_ROUNDS):
            facts = [nodes.states[state].facts for state in current[: bounds.replicas]]
            if _settled(facts) and all(nodes.states[state].busy is None for state in current):
                break
            for index in range(bounds.replicas):
                for event in nodes.states[current[index]].own:
                    if event[0] == TIMER and event in nodes.states[current[index]].own:
                        take(index, nodes.step(current[index], event))
                        settle()
        else:
            raise StrettoError(f"{definition.name}: the replicas did not commit the clients' first operations, though nothing went wrong")
        past = Past()
        for known in facts:
            assert known is not None
            past = with_facts(past, known)
        return (*(self._place(state, frozenset()) for state in current), 0, 0, self._intern_past(past))


def _settled(replicas: list[Facts | None]) -> bool:
    known = [facts for facts in replicas if facts is not None]
    return len({facts.hashes[-1] for facts in known}) == 1 and all(
        facts.serving and facts.committed_operations == len(facts.operations) for facts in known
    )


def _spent(event: Event) -> tuple[int, int]:
    """What an event uses up of the bounds: timers, crashes."""
    if isinstance(event, int) or event == CALL:
        return 0, 0
    return (0, 1) if event == RESTART else (1, 0)
