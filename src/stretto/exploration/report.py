"""What `stretto explore` reports."""

from __future__ import annotations

import msgspec

from stretto.core.protocol import ProtocolDefinition
from stretto.exploration.bounds import Bounds
from stretto.exploration.guided import GuidedSearch
from stretto.exploration.schedule import Schedule, confirmed, described_steps, to_schedule
from stretto.exploration.search import Search


class FoundSchedule(msgspec.Struct):
    """A violation: `description`, its steps in words, and `schedule`, which replays it."""

    description: list[str]
    schedule: Schedule


class ExhaustiveResult(msgspec.Struct, tag_field="mode", tag="exhaustive"):
    """The result of an exhaustive search. `exhausted`: every state within the bounds was reached. See docs/exploration.md for the rest."""

    protocol: str
    bounds: Bounds
    durability: str
    exhausted: bool
    states: int
    node_states: int
    transitions: int
    depth: int
    seconds: float
    violation: FoundSchedule | None


class GuidedResult(msgspec.Struct, tag_field="mode", tag="guided"):
    """The result of guided walks."""

    protocol: str
    bounds: Bounds
    durability: str
    seed: int
    walks: int
    steps: int
    seconds: float
    violation: FoundSchedule | None


def shortest(definition: ProtocolDefinition, search: Search | GuidedSearch) -> FoundSchedule | None:
    """The violation that a search has found, with as few steps as possible; None if it has found none."""
    if search.found is None:
        return None
    world, played = confirmed(definition, search.world, search.found)
    assert played.violation is not None
    return FoundSchedule(list(described_steps(world, played)), to_schedule(world, definition, played.steps, played.violation))


def result_of(
    search: Search | GuidedSearch, protocol: str, durability: str, seconds: float, violation: FoundSchedule | None
) -> ExhaustiveResult | GuidedResult:
    """The result of a search that took `seconds`."""
    bounds = search.world.bounds
    if isinstance(search, GuidedSearch):
        return GuidedResult(protocol, bounds, durability, search.seed, search.walks, search.steps, seconds, violation)
    node_states = len(search.world.nodes.states)
    counts = (search.exhausted, search.states, node_states, search.transitions, search.depth)
    return ExhaustiveResult(protocol, bounds, durability, *counts, seconds, violation)
