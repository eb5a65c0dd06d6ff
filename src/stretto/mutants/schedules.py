"""Schedules written as text: they lead to a rare state, in which a guided search for a mutant begins.

A line is one step: `c0 calls`, `r1 gets Prepare from r0` (the first such message that has not arrived there yet), `r1 restarts`,
`r0 timer resolve`, `r0 late leader` (the timer fires, after a long silence). Nodes are named as `stretto explore` does. Messages are
named by their types alone, so that a schedule still fits when their fields change.
"""

from __future__ import annotations

from dataclasses import dataclass

from stretto import catalog
from stretto.core.errors import StrettoError
from stretto.exploration.bounds import parse_bounds
from stretto.exploration.nodes import CALL, LATE, RESTART, TIMER, Event
from stretto.exploration.schedule import Schedule, Steps, steps_of, to_kept
from stretto.exploration.world import State, World


class ScheduleError(StrettoError):
    """A step of a schedule is not possible."""


@dataclass(frozen=True)
class Script:
    """A schedule as text. `protocol`, `bounds`: of the world in which it is played; the bounds are also those of the search after it."""

    protocol: str
    bounds: str
    steps: str

    def played(self) -> Schedule:
        """The schedule, with its messages. Raises ScheduleError at a step that is not possible or has no effect."""
        bounds = parse_bounds(self.bounds)
        world = World(catalog.protocol_for(bounds.config(self.protocol)), bounds, remember=False, reduce=False)
        state = world.start
        arrived: set[tuple[int, Event]] = set()
        steps: list[Steps] = []
        for line in filter(None, map(str.strip, self.steps.splitlines())):
            node, event = _event(world, state, line, arrived)
            steps.append(steps_of(world, [(node, event)]))
            after = world.after(state, node, event) if event in world.events(state, node) else None
            if after is None:
                raise ScheduleError(f"{self.protocol}: {line!r} is not possible, or has no effect")
            arrived.add((node, event))
            state = after
        return Schedule(self.protocol, bounds, False, None, [to_kept(step) for part in steps for step in part])


def _event(world: World, state: State, line: str, arrived: set[tuple[int, Event]]) -> tuple[int, Event]:
    name, what, *rest = line.split()
    node = _index(world, name)
    if what == "gets":
        kind, _, source = rest
        address = world.address_of(_index(world, source))
        for message in sorted(world.inbox(state, node)):
            sent = world.nodes.messages[message]
            if (type(sent.message).__name__, sent.source) == (kind, address) and (node, message) not in arrived:
                return node, message
        raise ScheduleError(f"{line!r}: there is no such message")
    if what in ("timer", "late"):
        return node, (TIMER if what == "timer" else LATE, rest[0])
    return node, {"calls": CALL, "restarts": RESTART}[what]


def _index(world: World, name: str) -> int:
    return int(name[1:]) + (world.bounds.members if name[0] == "c" else 0)
