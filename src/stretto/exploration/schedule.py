"""A sequence of steps that leads to a violation: it can be shortened, saved in a file, replayed, and described in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from stretto.core.errors import ConfigurationError, StrettoError
from stretto.core.node import Message
from stretto.core.protocol import ProtocolDefinition
from stretto.core.trace import described
from stretto.exploration.bounds import Bounds
from stretto.exploration.checks import Facts, shown
from stretto.exploration.ledger import operations_of
from stretto.exploration.nodes import CALL, CLIENT_BASE, LATE, RESTART, Event, OwnEvent, Sent
from stretto.exploration.search import Found
from stretto.exploration.world import State, World
from stretto.verify.violation import Violation


class Step(NamedTuple):
    """The index of a node, and what happens to it: a message that was sent, or an event of its own."""

    node: int
    event: Sent | OwnEvent


Steps: TypeAlias = Sequence[Step]


class KeptViolation(msgspec.Struct, frozen=True):
    """A violation: `kind`, a fixed phrase, and what was observed."""

    kind: str
    description: str


class KeptStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step in a file. `event`: "message", or as in `OwnEvent`; `timer`: its name; `source`, `message`: what arrives."""

    node: int
    event: str
    timer: str = ""
    source: int = -1
    message: dict[str, Any] | None = None


class Schedule(msgspec.Struct, frozen=True):
    """All that is needed to replay a sequence of steps. `violation`: what they lead to; None for steps that only lead to a rare state."""

    protocol: str
    bounds: Bounds
    durable: bool
    violation: KeptViolation | None
    steps: list[KeptStep]


def steps_of(world: World, events: Sequence[tuple[int, Event]]) -> list[Step]:
    """The same steps, independent of the tables of the world that they were found in."""
    return [Step(node, world.nodes.messages[event] if isinstance(event, int) else event) for node, event in events]


class Played(NamedTuple):
    """The result of playing steps: those that had an effect, the state before each and at the end, and the violation, if any."""

    steps: list[Step]
    states: list[State]
    violation: Violation | None


def play(world: World, steps: Steps) -> Played:
    """Play the steps one after the other. Steps that are impossible or have no effect are left out."""
    done: list[Step] = []
    states = [world.start]
    for step in steps:
        try:
            after = _after(world, states[-1], step)
        except Violation as violation:
            return Played([*done, step], states, violation)
        if after is not None:
            done.append(step)
            states.append(after)
    return Played(done, states, None)


def event_in(world: World, step: Step) -> Event:
    """A step's event in the tables of a world in which the step has been played."""
    event: Event | None = world.nodes.find(step.event) if isinstance(step.event, Sent) else step.event
    assert event is not None
    return event


def _after(world: World, state: State, step: Step) -> State | None:
    event: Event | None = world.nodes.find(step.event) if isinstance(step.event, Sent) else step.event
    return world.after(state, step.node, event) if event in world.events(state, step.node) else None


def with_replies(world: World, steps: Steps) -> list[Step]:
    """The same steps, and the replies that a reduced world adds by itself, each before its first message is needed."""
    full: list[Step] = []
    state = world.start
    for step in steps:
        if isinstance(step.event, Sent) and world.nodes.find(step.event) not in world.events(state, step.node):
            for node, event in world.replies(state):
                full.append(*steps_of(world, [(node, event)]))
                state = world.after(state, node, event) or state
        full.append(step)
        try:
            state = _after(world, state, step) or state
        except Violation:
            break
    return full


def shortened(world: World, steps: Steps, kind: str) -> list[Step]:
    """Leave out steps that are not needed for a violation of this kind: first many at a time, then single ones, until all are needed."""
    kept = list(steps)
    part = max(1, len(kept) // 2)
    while True:
        before = len(kept)
        first = 0
        while first < len(kept):
            played = play(world, kept[:first] + kept[first + part :])
            if played.violation is not None and played.violation.kind == kind:
                kept = played.steps
            else:
                first += part
        if part == 1 and len(kept) == before:
            return kept
        part = max(1, part // 2)


def confirmed(definition: ProtocolDefinition, world: World, found: Found) -> tuple[World, Played]:
    """Confirm a violation: shorten its steps, and play them with nodes that run from the start, without a table of states.

    Raises StrettoError if they do not reach it. Then the snapshot of some node leaves out something that its behaviour depends on.
    """
    plain = World(definition, world.bounds, world.durable, reduce=False)
    steps = shortened(plain, with_replies(plain, steps_of(world, found.steps)), found.violation.kind)
    fresh = World(definition, world.bounds, world.durable, remember=False, reduce=False)
    played = play(fresh, steps)
    if played.violation is None:
        raise StrettoError(
            f"{found.violation}: found among states that were recognised by their snapshots, but the nodes themselves do not come to it;"
            " some snapshot leaves out what decides what its node does"
        )
    return fresh, played


# Files


def to_schedule(world: World, definition: ProtocolDefinition, steps: Steps, violation: Violation) -> Schedule:
    """What `from_file` reads again."""
    kept = KeptViolation(violation.kind, violation.description)
    return Schedule(definition.name, world.bounds, world.durable, kept, [to_kept(step) for step in steps])


def to_kept(step: Step) -> KeptStep:
    """A step as it stands in a file."""
    if isinstance(step.event, Sent):
        return KeptStep(step.node, "message", source=step.event.source, message=described(step.event.message))
    kind, timer = step.event
    return KeptStep(step.node, kind, timer)


def steps_in(schedule: Schedule, definition: ProtocolDefinition, world: World) -> list[Step]:
    """The steps of a schedule. Raises ConfigurationError, with its number, at one that is not of this protocol."""
    types = {kind.__name__: kind for kind in definition.message_types}
    steps = []
    for number, kept in enumerate(schedule.steps, 1):
        try:
            steps.append(Step(kept.node, _event(kept, types, world)))
        except (KeyError, msgspec.ValidationError) as error:
            raise ConfigurationError(f"is no step of {definition.name}: {error}", key=f"steps[{number}]") from None
    return steps


def _event(kept: KeptStep, types: dict[str, type[Message]], world: World) -> Sent | OwnEvent:
    if kept.message is None:
        return kept.event, kept.timer
    kind = types[kept.message["type"]]
    parts = [kind.__struct_config__.tag, *(kept.message[name] for name in kind.__struct_fields__)]
    return Sent(kept.source, world.address_of(kept.node), msgspec.convert(msgspec.to_builtins(parts), kind))


# For people


def described_steps(world: World, played: Played) -> Iterator[str]:
    """Numbered lines: each step and, below it, what it changes; then the violation, and the state of each replica before it."""
    for number, step in enumerate(played.steps, 1):
        yield f"{number:3}. {_described_event(world, played.states[number - 1], step)}"
        if number < len(played.states):
            yield from (f"       {line}" for line in _changes(world, played.states[number - 1], played.states[number], step.node))
    if played.violation is not None:
        yield f"     {played.violation.kind}: {played.violation.description}"
    yield "The replicas before the last step (committed | speculative):" if played.violation else "The replicas:"
    for index, facts in enumerate(world.replicas(played.states[-1])):
        yield f"  r{index}: {_described_facts(facts)}"


def _changes(world: World, before: State, after: State, node: int) -> Iterator[str]:
    if node < world.bounds.replicas:
        former, facts = world.replicas(before)[node], world.replicas(after)[node]
        if former != facts:
            yield f"r{node}: {_described_facts(facts)}"
    accepted = world.past(after).accepted[len(world.past(before).accepted) :]
    for operations, _ in accepted:
        yield f"the call of {operations[-1].decode()} returns {shown(operations)}"
    if world.busy(before, node) is not None and world.busy(after, node) is None and not accepted:
        yield "the call ends without a result"


def _described_facts(facts: Facts | None) -> str:
    if facts is None:
        return "has stopped itself"
    committed = facts.committed_operations
    log = f"[{' '.join(_names(facts.operations[:committed]))} | {' '.join(_names(facts.operations[committed:]))}]"
    return f"view {facts.view}, {'in service' if facts.serving else 'not in service'}, committed to {facts.committed}, log {log}"


def _names(operations: Sequence[bytes]) -> list[str]:
    return [operation.decode() for operation in operations]


def _described_event(world: World, before: State, step: Step) -> str:
    node = _node_name(world, world.address_of(step.node))
    if isinstance(step.event, Sent):
        return f"{node} receives {described_message(step.event.message)} from {_node_name(world, step.event.source)}"
    kind, timer = step.event
    if step.event == CALL:
        return f"{node} calls {world.calls(before, step.node)[0].decode()}"
    if step.event == RESTART:
        remembers = world.durable and step.node < world.bounds.replicas
        return f"{node} crashes and starts again, {'with its disk' if remembers else 'with lost state'}"
    return f"timer {timer!r} of {node} fires{', after a long silence' if kind == LATE else ''}"


def _node_name(world: World, address: int) -> str:
    bounds = world.bounds
    return f"s{address - bounds.replicas}" if bounds.replicas <= address < bounds.members else _name(address)


def _name(address: int) -> str:
    return f"r{address}" if address < CLIENT_BASE else f"c{address - CLIENT_BASE}"


def described_message(value: Any) -> str:
    """A message as text: short names for addresses, the first digits of hashes and of large numbers."""
    if isinstance(value, Message):
        fields = (f"{name}={_field(name, getattr(value, name))}" for name in value.__struct_fields__ if name not in _UNTOLD)
        return f"{type(value).__name__}({', '.join(fields)})"
    return _field("", value)


_UNTOLD = ("time_ns", "entropy")


def _field(name: str, value: Any) -> str:
    if name == "client":
        return _name(value)
    if isinstance(value, Message):
        return described_message(value)
    if isinstance(value, bytes):
        if name == "result":
            return _described_result(value)
        text = value.decode("ascii", "replace")
        return text if text.isalnum() and len(text) < 4 else value.hex()[:4]
    if isinstance(value, tuple | list):
        return "[" + " ".join(_field("", part) for part in value) + "]"
    if name == "session" and value >> 62:
        return f"~{value & 0xFFFF:04x}"
    if isinstance(value, int) and value >= 1 << 40:
        return f"{value >> 40}:{value & 0xFFFFFF:x}"
    return str(value)


def _described_result(result: bytes) -> str:
    try:
        return shown(operations_of(result))
    except msgspec.DecodeError:  # the result of a request that is no operation
        return result.hex()[:4]
