"""The exhaustive search: it visits every reachable state once, the nearest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stretto.exploration.nodes import Event
from stretto.exploration.world import Move, State, World
from stretto.verify.violation import Violation

_PER_PROGRESS = 1_000


class Found(NamedTuple):
    """A violation, and the steps that lead to it: the index of a node, and what happens to it."""

    violation: Violation
    steps: list[tuple[int, Event]]


class Search:
    """A breadth-first search, which finds a violation by one of the shortest sequences of moves.

    `states`: how many different states were reached; `transitions`: how many moves were taken; `depth`: the length of the longest sequence
    of moves to a visited state; `exhausted`: whether no state is left to visit. The search also ends at `max_states`.
    """

    def __init__(self, world: World, max_states: int = 5_000_000) -> None:
        self.world = world
        self._max_states = max_states
        self.transitions = 0
        self.depth = 0
        self.exhausted = False
        self.found: Found | None = None
        self._parents: dict[State, State | None] = {world.start: None}

    @property
    def states(self) -> int:
        """How many different states were reached."""
        return len(self._parents)

    def reached(self) -> Iterable[State]:
        """The states, in the order in which they were reached."""
        return self._parents.keys()

    def in_short(self) -> str:
        """One line, for a display of progress."""
        return f"{self.states:,} states, {self.transitions:,} transitions, depth {self.depth}"

    def run(self) -> Iterator[None]:
        """Search until there is a violation, or nothing left. Yields regularly, so that the caller can stop."""
        world, parents = self.world, self._parents
        level = [world.start]
        while level:
            following: list[State] = []
            for count, state in enumerate(level):
                if count % _PER_PROGRESS == 0:
                    yield
                    if self.states >= self._max_states:
                        return
                for index, move in world.moves(state):
                    self.transitions += 1
                    try:
                        after = world.successor(state, index, move)
                    except Violation as violation:
                        self.found = Found(violation, [*self._steps_to(state), *((index, event) for event in move.events)])
                        return
                    if after not in parents:
                        parents[after] = state
                        following.append(after)
            self.depth += bool(following)
            level = following
        self.exhausted = True

    def _steps_to(self, state: State) -> list[tuple[int, Event]]:
        steps: list[tuple[int, Event]] = []
        while (parent := self._parents[state]) is not None:
            index, move = self._move_between(parent, state)
            steps[:0] = [(index, event) for event in move.events]
            state = parent
        return steps

    def _move_between(self, before: State, after: State) -> tuple[int, Move]:
        return next((index, move) for index, move in self.world.moves(before) if self.world.successor(before, index, move) == after)
