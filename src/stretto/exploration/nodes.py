"""The real nodes as a table: for each state of a node and each event, the next state and the messages sent.

A node is deterministic, and its snapshot determines what it does. So the code of a node runs once for each of its own states and each event
in it, however many states of the world share that state. To branch, a node is pickled with its port. One unpickling per step takes half the
time of `copy.deepcopy`, and a stored state takes about four kilobytes.

Time is abstract. A message takes none; a timer that is set fires whenever the search decides, either at once, or late, when every timeout
has passed. So every comparison of a node with a remembered time is tried with both results.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, NamedTuple, TypeAlias, cast

from stretto.core.config import ClusterConfig
from stretto.core.errors import StrettoError
from stretto.core.node import Address, Client, Message, Node, Replica
from stretto.core.protocol import BOOTSTRAP, ProtocolDefinition, Start
from stretto.core.state_machine import encode
from stretto.exploration.checks import Answer, Facts, check_step, facts_of
from stretto.exploration.ledger import Ledger, operations_of
from stretto.verify.violation import Violation

CLIENT_BASE = 1 << 20
"""The address of the first client."""

SILENCE_NS = 3_600_000_000_000
"""How long a late timer has waited: longer than any timeout."""

MessageId: TypeAlias = int
StateId: TypeAlias = int

OwnEvent: TypeAlias = tuple[str, str]
"""What a node does by itself: (TIMER or LATE, the timer's name), CALL, RESTART."""

Event: TypeAlias = "MessageId | OwnEvent"
"""What happens to a node: a message arrives, or an event of its own."""

TIMER = "timer"
LATE = "late timer"
CALL: OwnEvent = ("call", "")
RESTART: OwnEvent = ("restart", "")


class Sent(NamedTuple):
    """A message on its way, which may arrive at any time, any number of times, or never."""

    source: Address
    destination: Address
    message: Message


class Step(NamedTuple):
    """The effect of an event.

    `after`: the node's next state. `sent`: messages, each once. `answer`: how the client's call ended, if it did. `stopped`: why the node
    stopped itself, if it did. `violation`: which check failed; the other fields mean nothing then.
    """

    after: StateId
    sent: tuple[MessageId, ...] = ()
    answer: Answer | None = None
    stopped: str | None = None
    violation: Violation | None = None


class CountedRandom(Random):
    """Numbers that count up, for each node and incarnation from another start: distinct, short, and determined by how many were drawn."""

    def __init__(self, first: int) -> None:
        super().__init__(0)
        self.next = first

    def getrandbits(self, k: int, /) -> int:
        """The next number, cut to `k` bits."""
        self.next += 1
        return self.next & ((1 << k) - 1)

    def random(self) -> float:
        """A number in [0, 1)."""
        return self.getrandbits(16) / (1 << 16)

    def __reduce__(self) -> Any:
        return CountedRandom, (self.next,)


class RecordingPort:
    """A port that notes what its node asks of the world. See `stretto.core.node.Port`.

    `records`: what was persisted; `memory`: identifies the state that a later incarnation makes of the records; None until it is needed.
    """

    def __init__(self, address: Address, group: int, incarnation: int, durable: bool) -> None:
        self.address = address
        self.durable = durable
        self.incarnation = incarnation
        self.now_ns = SILENCE_NS
        self.late_ns = 0
        self.written = None
        self.wall_ns = None  # a clock would make every state another one
        self.random = CountedRandom(1_000_000 * (incarnation + 1) + 1_000 * (address % CLIENT_BASE + (address >= CLIENT_BASE) * 500))
        self.timers: set[str] = set()
        self.at_burst_end: dict[str, None] = {}
        self.records: list[Message] = []
        self.memory: bytes | None = b""
        self.outbox: list[tuple[Address, Message]] = []
        self.stopped: str | None = None
        self._group = group

    def send(self, destination: Address, message: Message) -> None:
        """Note it."""
        self.outbox.append((destination, message))

    def multicast(self, message: Message) -> None:
        """Note a copy for each replica except the sender."""
        for index in range(self._group):
            if index != self.address:
                self.outbox.append((index, message))

    def set_timer(self, name: str, delay_ns: int) -> None:
        """Note that it is set. It may fire at any time; with no delay, it fires at the end of the event, which is a burst."""
        if delay_ns:
            self.timers.add(name)
        else:
            self.at_burst_end[name] = None

    def cancel_timer(self, name: str) -> None:
        """Forget it."""
        self.timers.discard(name)
        self.at_burst_end.pop(name, None)

    def persist(self, record: Message) -> None:
        """Keep it for a later incarnation. An event is a burst, and all its records are on disk when it is over."""
        self.records.append(record)
        self.memory = None

    def identify(self, first: Sequence[int]) -> None:
        """Nothing is kept."""

    def compact(self, records: Sequence[Message]) -> None:
        """Keep only these."""
        self.records = list(records)
        self.memory = None

    def stop(self, reason: str, *, distrust: bool = False) -> None:
        """Note it."""
        self.stopped = reason

    def report(self, event: str, **details: Any) -> None:
        """Nothing: what happens is known from the steps."""


class Actor:
    """A node and what belongs to it. `calls`: the operations that a client has yet to call; `busy`: the one that it waits for."""

    def __init__(self, port: RecordingPort, node: Node | None, calls: Sequence[bytes] = ()) -> None:
        self.port = port
        self.node = node
        self.calls = tuple(calls)
        self.busy: bytes | None = None
        self.outcome: bytes | StrettoError | None = None

    def call(self) -> None:
        """Begin the next call."""
        operation, self.calls = self.calls[0], self.calls[1:]
        self.busy = operation
        cast(Client, self.node).call(operation, 0, self.done)

    def done(self, outcome: bytes | StrettoError) -> None:
        """The call has ended."""
        self.busy = None
        self.outcome = outcome

    def take(self) -> tuple[list[tuple[Address, Message]], str | None, bytes | StrettoError | None]:
        """The effects of a step: what was sent, why the node stopped, how its call ended. A node that stopped itself has sent nothing."""
        port = self.port
        taken = port.outbox, port.stopped, self.outcome
        port.outbox, port.stopped, self.outcome = [], None, None
        if taken[1] is not None:
            self.node = None
            port.timers.clear()
            return [], *taken[1:]
        return taken

    def key(self) -> bytes:
        """Identifies the state."""
        port = self.port
        node = None if self.node is None else self.node.snapshot()
        assert port.memory is not None
        rest = [port.address, sorted(port.timers), port.random.next, port.incarnation, port.memory, self.calls, self.busy]
        return digest([rest, node])


def digest(data: Any) -> bytes:
    """A digest that identifies plain data."""
    return blake2b(encode(data), digest_size=16).digest()


class NodeState(NamedTuple):
    """One state of one node.

    `own`: the events that are not messages; `facts`: of a replica that has not stopped, else None; `calls`: the operations that a client
    has yet to call, `busy`: the one that it waits for; `deaf`: no message will ever have an effect on it; `stamped`: the last number that
    a sequencer assigned.
    """

    address: Address
    pickled: bytes
    own: tuple[OwnEvent, ...]
    facts: Facts | None
    calls: tuple[bytes, ...]
    busy: bytes | None
    deaf: bool
    stamped: int
    steps: dict[Event, Step | None]


class NodeTable:
    """All states of all nodes that were reached, with the steps between them, computed on demand.

    `remember`: whether the search may continue from any state, and looks up steps that were taken before. Without it, each step runs the
    code of the node as the last step left it, and the search can return only to states that were reached while `remember` was set.

    Parameters: `config`, of the cluster; `durable`, whether replicas have a disk.
    """

    def __init__(self, definition: ProtocolDefinition, config: ClusterConfig, durable: bool = False) -> None:
        self.remember = True
        self.states: list[NodeState] = []
        self.messages: list[Sent] = []
        self._definition = definition
        self._config = config
        self._durable = durable
        self._state_ids: dict[bytes, StateId] = {}
        self._message_ids: dict[tuple[Address, Address, type[Message], bytes], MessageId] = {}
        self._replayed: set[tuple[bytes, bytes]] = set()
        self._live: dict[Address, tuple[StateId, Actor]] = {}

    def first_replica(self, index: int) -> Step:
        """A replica that starts for the first time."""
        step = self._outcome(self._replica(self._port(index, incarnation=0), BOOTSTRAP), None, None)
        assert step is not None
        return step

    def first_sequencer(self, address: Address) -> Step:
        """A sequencer that starts for the first time."""
        step = self._outcome(self._sequencer(self._port(address, incarnation=0)), None, None)
        assert step is not None
        return step

    def first_client(self, number: int, calls: Sequence[bytes]) -> Step:
        """A client that is to make these calls."""
        port = self._port(CLIENT_BASE + number, incarnation=0)
        step = self._outcome(lambda: Actor(port, self._definition.client(port, self._config), calls), None, None)
        assert step is not None
        return step

    def step(self, state: StateId, event: Event) -> Step | None:
        """The effect of an event on a node in this state; None if it changes nothing and sends nothing."""
        steps = self.states[state].steps
        if not self.remember:
            return self._run(state, event)
        if event not in steps:
            steps[event] = self._run(state, event)
        return steps[event]

    def find(self, sent: Sent) -> MessageId | None:
        """The number of a message, if it has ever been sent."""
        return self._message_ids.get(_message_key(sent))

    def _port(self, address: Address, incarnation: int) -> RecordingPort:
        return RecordingPort(address, self._config.n, incarnation, self._durable and address < self._config.n)

    def _replica(self, port: RecordingPort, start: Start) -> Callable[[], Actor]:
        return lambda: Actor(port, self._definition.replica(port, self._config, port.address, Ledger(), start))

    def _sequencer(self, port: RecordingPort) -> Callable[[], Actor]:
        factory, config = self._definition.sequencer, self._config
        assert factory is not None
        return lambda: Actor(port, factory(port, config, port.address - config.n))

    def _later_incarnation(self, former: RecordingPort) -> Callable[[], Actor]:
        port = self._port(former.address, former.incarnation + 1)
        if port.address >= self._config.n:
            return self._sequencer(port)
        port.records, port.memory = list(former.records), None
        return self._replica(port, Start(records=list(port.records)))

    def _memory(self, port: RecordingPort) -> bytes:
        """Records from which later incarnations make the same state are equal, however they came about."""
        try:
            later = self._later_incarnation(port)()
            return digest([later.port.stopped, later.node and later.node.snapshot()])
        except Exception as error:  # this is a violation only if the replica does crash now
            return digest(repr(error))

    def _run(self, state: StateId, event: Event) -> Step | None:
        actor = self._actor(state)
        if event != RESTART:
            return self._outcome(lambda: self._perform(actor, event), state, event)
        return self._outcome(self._later_incarnation(actor.port), None, event)

    def _actor(self, state: StateId) -> Actor:
        """The node itself, in this state. A caller that changes it must record that in `_live`."""
        address = self.states[state].address
        at, actor = self._live.pop(address, (-1, None))
        if at == state and actor is not None:
            return actor
        assert self.states[state].pickled, "the search cannot return to a state that was not kept"
        copy: Actor = pickle.loads(self.states[state].pickled)
        return copy

    def _perform(self, actor: Actor, event: Event) -> Actor:
        node, port = actor.node, actor.port
        assert node is not None
        if isinstance(event, int):
            node.on_message(self.messages[event].source, self.messages[event].message)
        elif event == CALL:
            actor.call()
        else:
            kind, name = event
            port.timers.remove(name)
            if kind == LATE:
                port.now_ns += SILENCE_NS
            node.on_timer(name)
        while port.at_burst_end:
            node.on_timer(port.at_burst_end.popitem()[0])
        node.check_invariants()
        return actor

    def _outcome(self, action: Callable[[], Actor], before: StateId | None, event: Event | None) -> Step | None:
        """Run the event on the node. Returns its effect."""
        try:
            actor = action()
            outbox, stopped, outcome = actor.take()
            after = self._intern(actor)
            if before is not None:
                check_step(self.states[before].facts, self.states[after].facts)
        except Violation as violation:
            return Step(-1, violation=violation)
        except StrettoError:
            raise
        except Exception as error:
            return Step(-1, violation=Violation("node failed", f"{type(error).__name__}: {error}".rstrip(": ")))
        self._live[actor.port.address] = (after, actor)
        if after == before and not outbox:
            return None
        sent = tuple(dict.fromkeys(self._intern_message(Sent(actor.port.address, *out)) for out in outbox))
        answer = None if outcome is None else self._answer(outcome, event)
        return Step(after, sent, answer, stopped)

    def _answer(self, outcome: bytes | StrettoError, event: Event | None) -> Answer:
        if isinstance(outcome, StrettoError):
            return Answer(None, None, type(outcome).__name__)
        view = getattr(self.messages[event].message, "view", None) if isinstance(event, int) else None
        return Answer(operations_of(outcome), view, None)

    def _intern(self, actor: Actor) -> StateId:
        if actor.port.memory is None:
            actor.port.memory = self._memory(actor.port)
        key = actor.key()
        state = self._state_ids.get(key)
        if state is None:
            state = self._state_ids[key] = len(self.states)
            self.states.append(self._state_of(actor))
        return state

    def _state_of(self, actor: Actor) -> NodeState:
        port, node = actor.port, actor.node
        is_replica, is_client = port.address < self._config.n, port.address >= CLIENT_BASE
        own: list[OwnEvent] = [(kind, name) for name in sorted(port.timers) for kind in (TIMER, LATE)]
        own += [] if is_client else [RESTART]
        own += [CALL] if actor.calls and actor.busy is None else []
        facts = None
        if is_replica and node is not None:
            replica = cast(Replica, node)
            facts = facts_of(replica, self._replayed)
        deaf = node is None or (is_client and not (actor.calls or actor.busy))
        stamped = 0 if is_replica or is_client or node is None else node.metrics()["stamped"]
        pickled = _pickled(actor) if self.remember else b""
        return NodeState(port.address, pickled, tuple(own), facts, actor.calls, actor.busy, deaf, stamped, {})

    def _intern_message(self, sent: Sent) -> MessageId:
        key = _message_key(sent)
        number = self._message_ids.get(key)
        if number is None:
            number = self._message_ids[key] = len(self.messages)
            self.messages.append(sent)
        return number


def _pickled(actor: Actor) -> bytes:
    try:
        return pickle.dumps(actor, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise StrettoError(f"a {type(actor.node).__name__} cannot be copied: {error}") from error


def _message_key(sent: Sent) -> tuple[Address, Address, type[Message], bytes]:
    return sent.source, sent.destination, type(sent.message), encode(sent.message)
