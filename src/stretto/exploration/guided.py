"""The guided search: seeded walks through a world that is too large for an exhaustive search, biased towards errors in protocols.

Uniformly random schedules rarely find errors in recovery. The following do: walks of few steps; votes that are delayed while the other
nodes continue; a crash right after a vote, and a quick recovery that only some replicas hear of; votes that arrive together and complete a
quorum; and old messages that still arrive. The search knows no protocol: for it, a vote is one kind of message from one node to another. So
each walk delays random kinds for a random time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from random import Random
from typing import NamedTuple, TypeAlias

from stretto.core.errors import ConfigurationError
from stretto.core.protocol import ProtocolDefinition
from stretto.exploration.bounds import Bounds
from stretto.exploration.nodes import CALL, LATE, RESTART, TIMER, Event, MessageId
from stretto.exploration.schedule import Steps, event_in, play
from stretto.exploration.search import Found
from stretto.exploration.world import State, World
from stretto.verify.violation import Violation

_MAX_NODE_STATES = 50_000
"""When the tables of a world have this many states, the next walk begins with new tables."""
_VAIN_PER_PHASE = 8
_MAX_VAIN = 40
"""After `_VAIN_PER_PHASE` choices in a row without effect, other kinds are delayed; after `_MAX_VAIN`, the walk ends."""
_WALKS_PER_PROGRESS = 10

Kind: TypeAlias = tuple[int, int, str]
"""A kind of message: its source, its destination, and its type's name."""
Choice: TypeAlias = tuple[int, Event]


class Habits(NamedTuple):
    """How one walk chooses. `steps`: its length; `phase`: for how many steps the same kinds are delayed. The others are probabilities:

    - `delay`: a kind is delayed; `timer`, `late`, `call`, `crash`: such a step is taken;
    - `crash_after_delayed`: a node crashes right after it has sent a delayed message;
    - `again`: a message may arrive again; `chase`: a message that the last step sent arrives.
    """

    steps: int
    phase: int
    delay: float
    timer: float
    late: float
    call: float
    crash: float
    crash_after_delayed: float
    again: float
    chase: float

    @classmethod
    def drawn(cls, random: Random) -> Habits:
        """The habits of one walk."""
        return cls(
            steps=random.choice((30, 60, 120)),
            phase=random.choice((6, 12, 24)),
            delay=random.choice((0.05, 0.15, 0.3)),
            timer=random.choice((0.02, 0.08)),
            late=random.choice((0.02, 0.08)),
            call=random.choice((0.05, 0.2)),
            crash=random.choice((0.0, 0.02)),
            crash_after_delayed=random.choice((0.0, 0.1, 0.4)),
            again=random.choice((0.02, 0.2)),
            chase=random.choice((0.3, 0.8)),
        )


class Walk:
    """One walk, from the start of a world or from the end of some steps.

    Parameters: `state`, where it begins; `events`, the steps that lead there from the world's start.

    `delayed`: for each kind of message that was seen in this phase, whether it is delayed; `arrived`: the messages that each node has
    received in its present incarnation; `latest`: the messages that the last step sent.
    """

    def __init__(self, world: World, random: Random, state: State, events: Sequence[Choice]) -> None:
        self.world = world
        self.state = state
        self.events = [*events]
        self._random = random
        self._habits = Habits.drawn(random)
        self._delayed: dict[Kind, bool] = {}
        self._arrived: set[Choice] = set()
        self._latest: list[tuple[int, MessageId]] = []

    def run(self) -> None:
        """Walk until all steps are taken, or none is possible. Raises Violation; `events` are then the steps that led to it."""
        vain = 0
        last = len(self.events) + self._habits.steps
        while len(self.events) < last and vain < _MAX_VAIN:
            choice = self._choose()
            vain = 0 if choice is not None and self._take(*choice) else vain + 1
            if vain % _VAIN_PER_PHASE == _VAIN_PER_PHASE - 1:
                self._delayed = {}

    def _take(self, index: int, event: Event) -> bool:
        """Take the step. Returns whether it had an effect within the bounds."""
        before = self.state
        self.events.append((index, event))
        after = self.world.after(before, index, event)
        self._arrived.add((index, event))
        if after is None or after == before or not self.world.within_bounds(after):
            self.events.pop()
            return False
        self.state = after
        self._latest = [
            (destination, message)
            for destination in range(self.world.size)
            for message in sorted(self.world.inbox(after, destination) - self.world.inbox(before, destination))
        ]
        if event == RESTART:
            self._arrived = {(node, message) for node, message in self._arrived if node != index}
        if event == RESTART or len(self.events) % self._habits.phase == 0:
            self._delayed = {}
        return True

    def _choose(self) -> Choice | None:
        random, habits = self._random, self._habits
        if random.random() < habits.crash_after_delayed:
            delayed = {self.world.nodes.messages[message].source for _, message in self._latest if self._is_delayed(message)}
            if voters := delayed & set(range(self.world.bounds.replicas)):
                return self._own(RESTART[0], voters)
        draw = random.random()
        for kind, rate in ((TIMER, habits.timer), (LATE, habits.late), (CALL[0], habits.call), (RESTART[0], habits.crash)):
            if draw < rate:
                return self._own(kind, range(self.world.size))
            draw -= rate
        return self._message()

    def _own(self, kind: str, nodes: Collection[int]) -> Choice | None:
        """An event of that kind, of one of these nodes."""
        events = [(index, event) for index in sorted(nodes) for event in self.world.own_events(self.state, index) if event[0] == kind]
        return self._random.choice(events) if events else None

    def _message(self) -> Choice | None:
        """A message that arrives."""
        if self._latest and self._random.random() < self._habits.chase:
            sent = self._latest
        else:
            sent = [(index, message) for index in range(self.world.size) for message in sorted(self.world.inbox(self.state, index))]
        again = self._random.random() < self._habits.again
        ready = [choice for choice in sent if (again or choice not in self._arrived) and not self._is_delayed(choice[1])]
        return self._random.choice(ready) if ready else None

    def _is_delayed(self, message: MessageId) -> bool:
        source, destination, content = self.world.nodes.messages[message]
        kind = (source, destination, type(content).__name__)
        if kind not in self._delayed:
            self._delayed[kind] = self._random.random() < self._habits.delay
        return self._delayed[kind]


class GuidedSearch:
    """A series of walks with the seeds `seed`, `seed` + 1 and so on. `walks`, `steps`: how many there were.

    Parameters: `beginning`, steps that every walk begins with. Walks from the start do not come far into rare states in reasonable time;
    those that begin there do. Steps that are impossible or have no effect are left out. Raises ConfigurationError if all are, or if one is
    a violation already.
    """

    def __init__(self, definition: ProtocolDefinition, bounds: Bounds, durable: bool, seed: int, beginning: Steps = ()) -> None:
        self.walks = 0
        self.steps = 0
        self.found: Found | None = None
        self._definition = definition
        self._bounds = bounds
        self._durable = durable
        self.seed = seed
        self._beginning = beginning
        self.world = self._new_world()

    def _new_world(self) -> World:
        """Empty tables, and in them the state at the end of the beginning."""
        world = World(self._definition, self._bounds, self._durable, reduce=False)
        played = play(world, self._beginning)
        if played.violation is not None:
            raise ConfigurationError(f"step {len(played.steps)} is a violation already: {played.violation}")
        if self._beginning and not played.steps:
            raise ConfigurationError("none of its steps is possible")
        self._state = played.states[-1]
        self._events = [(step.node, event_in(world, step)) for step in played.steps]
        return world

    def in_short(self) -> str:
        """One line, for a display of progress."""
        return f"{self.walks:,} walks from seed {self.seed}, {self.steps:,} steps"

    def run(self) -> Iterator[None]:
        """Walk until there is a violation. Yields regularly, so that the caller can stop."""
        while True:
            walk = Walk(self.world, Random(f"walk/{self.seed + self.walks}"), self._state, self._events)
            self.walks += 1
            try:
                walk.run()
            except Violation as violation:
                self.found = Found(violation, walk.events)
                return
            finally:
                self.steps += len(walk.events) - len(self._events)
            if self.walks % _WALKS_PER_PROGRESS == 0:
                yield
            if len(self.world.nodes.states) > _MAX_NODE_STATES:
                self.world = self._new_world()
