"""Every field of a node's state must show in its `snapshot()`.

The exhaustive search treats two states with equal snapshots as one. A field that `snapshot()` forgets makes it skip states, so that it may
miss a violation.

Here the nodes of each protocol are taken on a stage in several moments. Each field of a node and of its parts is changed, one at a time,
and the snapshot must change too (or fail, since it reads the field) in at least one of these moments.

Not changed are: ports, callables, references to other parts (whose own fields are changed), and constants. A constant is a field with an
immutable value whose name is never assigned outside of an `__init__`, in a part that lives as long as its node. All other exceptions are
listed in `NOT_IN_SNAPSHOT`, each with its reason.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

import stretto
from stretto import catalog
from stretto.core.config import Limits
from stretto.core.node import Node
from stretto.core.state_machine import Undo
from stretto.protocols.unreplicated.replica import Server
from stretto.testing import RecordingPort, Stage

SOURCE = Path(stretto.__file__).parent
PARTS = ("stretto.replication.", "stretto.protocols.")
"""The modules whose objects are parts of nodes."""

STATISTIC = "only counted for metrics; no decision reads it"
HASHED = "follows from the hashes of the log and the checkpoints' positions, which are in the snapshot"
TIMER = "whether a timer is set, which the host knows and adds to the snapshot"
PATIENCE = "decides only how long a timer runs, and timers fire in every order in a search"
CONSTANT = "never changes after the node was built, and is the same in all its states"

NOT_IN_SNAPSHOT = {
    "fastpaxos.FastPath.collisions": STATISTIC,
    "Group.ignored": STATISTIC,
    "StateTransfer.repairs": STATISTIC,
    "StateTransfer.asked_again": STATISTIC,
    "StateTransfer._patience_ns": PATIENCE,
    "StateTransfer._asked_ns": PATIENCE,
    "ReplicatedState.longest_pause_ns": STATISTIC,
    "ReplicatedState.rolled_back_operations": STATISTIC,
    "StateTransfer.checkpoints_installed": STATISTIC,
    "ViewChange.reconciliations": STATISTIC,
    "ViewChange.view_changes": STATISTIC,
    "SessionClient._completed": STATISTIC,
    "SessionClient._failures": STATISTIC,
    "SessionClient._ignored": STATISTIC,
    "SessionClient._retransmissions": STATISTIC,
    "adaptive.AdaptiveClient._conflicts": STATISTIC,
    "adaptive.SlowPath.activations": STATISTIC,
    "nopaxos.Ordering.no_ops": STATISTIC,
    "Part.timers": "which timers a part has, always the same",
    "Resumption._ticks": "only for reports",
    "nopaxos.Sequencer.ignored": STATISTIC,
    "speculative.SpeculativeClient._conflicts": STATISTIC,
    "speculative.Synchronisation.conflicts": STATISTIC,
    "Log._entries": HASHED,
    "Log.last_hash": HASHED,
    "ReplicatedState._results": HASHED,
    "ReplicatedState.life": "`Group.life`",
    "ReplicatedState._session_undos": HASHED,
    "ReplicatedState._times": HASHED,
    "ReplicatedState._machine_undos": HASHED,
    "ReplicatedState._next_checkpoint": HASHED,
    "ReplicatedState._checkpoint_digest": HASHED,
    "SessionTable._by_nonce": "the inverse of `records`",
    "SessionTable._max_sessions": "that of `ReplicatedState.configuration`",
    "Tally._votes": "counts `answers`",
    "ClockSamples.offset_ns": "the median of the samples",
    "ClusterClock.limit_ns": "computed from the samples when it is asked for",
    "SessionClient._ticking": TIMER,
    "Part.handlers": CONSTANT,
    "Group.peers": CONSTANT,
    "Tally._needed": CONSTANT,
    "Tally._voters": CONSTANT,
    "ReplicatedState.persist": CONSTANT,
    "ReplicatedState.compact": CONSTANT,
    "ReplicatedState._outcomes": "computed from the results when it is asked for",
    "nopaxos.NoPaxosClient._sequencers": CONSTANT,
    "nopaxos.SequencerSession._addresses": CONSTANT,
}
"""Why a field need not be in the snapshot. The class is the first that assigns it; for a protocol's class, with the protocol's name."""


class Tape:
    """A state machine that keeps the operations."""

    def __init__(self) -> None:
        self.operations: list[bytes] = []

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        self.operations.append(operation)
        return operation, len(self.operations)

    def undo(self, undo: Undo) -> None:
        assert undo == len(self.operations)
        self.operations.pop()

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.operations)

    def restore(self, snapshot: bytes) -> None:
        self.operations = msgspec.msgpack.decode(snapshot, type=list[bytes])


# The moments


MS = 1_000_000


def moments(protocol: str, durable: bool) -> Iterator[list[Node]]:
    """A small world of a protocol, and the nodes that are running, moment after moment."""
    definition = catalog.protocol(protocol)
    n = definition.max_replicas or 3
    stage = Stage(definition, n, Tape, durable=durable, limits=Limits(checkpoint_operations=4))
    rng = Random(protocol)
    clients = [stage.client() for _ in range(2)]

    def look() -> list[Node]:
        return list(stage.nodes.values())

    def disturb(steps: int) -> Iterator[list[Node]]:
        """Calls, deliveries in random order, losses and timers."""
        for step in range(steps):
            for client in clients:
                stage.call(client, b"%d" % step)
            for _ in range(rng.randrange(12)):
                if stage.in_flight:
                    flight = rng.choice(stage.in_flight)
                    stage.deliver_one(flight, again=rng.random() < 0.2)
            yield look()
            if rng.random() < 0.5:
                stage.lose(to=rng.randrange(n))
            due = [(when, address, name) for address, port in stage.ports.items() for name, when in port.timers.items()]
            for _, address, name in sorted(due)[: rng.randrange(1, 4)]:
                if name in stage.ports[address].timers:
                    stage.fire(address, name)
            yield look()

    yield look()
    yield from disturb(12)
    stage.run(100 * MS)
    yield look()
    if n == 1:
        return
    stage.crash(0)
    yield from disturb(12)
    for client in clients:
        stage.call(client, b"more")
    stage.run(100 * MS)
    yield look()
    if not durable:
        stage.in_flight.clear()
    stage.restart(0)
    yield look()
    for _ in range(60):
        if stage.in_flight:
            stage.deliver_one(stage.in_flight[0])
            yield look()
    yield from disturb(6)
    stage.run(200 * MS)
    yield look()


# What is changed


class _Probe:
    """In the place of a value whose type is not known: nothing can be done with it."""

    def __repr__(self) -> str:
        return "probe"


PROBE: Any = _Probe()


def changes(value: Any) -> Iterator[tuple[str, list[Any]]]:
    """The kinds of changes of a value, and for each some values that it could be instead. One of these must show."""
    match value:
        case None:
            yield "", [PROBE]
        case bool():
            yield "", [not value]
        case Enum():
            yield "", [member for member in type(value) if member is not value]
        case int():
            yield "", [value + 1, value - 1, value + (1 << 50), value - (1 << 50)]
        case str():
            yield "", [value + "x"]
        case bytes() | bytearray():
            yield "", [value + b"x", b"x" + value]
        case msgspec.Struct():
            fields = msgspec.structs.asdict(value).items()
            pairs = [(name, other) for name, old in fields for _, others in changes(old) for other in others]
            yield "", [msgspec.structs.replace(value, **{name: other}) for name, other in pairs]
        case Mapping() if not value:
            yield "", [{1: 1}, {1: PROBE}]
        case Mapping():
            key, item = next(iter(value.items()))
            yield " (an item less)", [{k: v for k, v in value.items() if k != key}]
            for kind, others in changes(item):
                yield f" (an item's value{kind})", [{**value, key: other} for other in others]
        case set() | frozenset():
            yield "", [value - {next(iter(value))}] if value else [{1}]
        case list() | tuple() if not value:
            yield "", [type(value)([1]), type(value)([PROBE])]
        case list() | tuple():
            yield " (an element less)", [value[:-1], value[1:]]
            for kind, others in changes(value[-1]):
                yield f" (an element{kind})", [type(value)([*value[:-1], other]) for other in others]
        case _:
            yield "", [PROBE]


def is_part(value: Any) -> bool:
    """Whether a value is an object of ours with fields of its own."""
    return type(value).__module__.startswith(PARTS) and not isinstance(value, msgspec.Struct | Enum | type)


def fields_of(part: Any) -> dict[str, Any]:
    """The fields of an object, by name."""
    slots = [name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(part, name) for name in [*slots, *getattr(part, "__dict__", {})] if hasattr(part, name)}


def parts_within(value: Any) -> Iterator[Any]:
    """The parts that a field's value is or holds."""
    if is_part(value):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from parts_within(item)
    elif isinstance(value, Sequence | set) and not isinstance(value, str | bytes | bytearray | msgspec.Struct):
        for item in value:
            yield from parts_within(item)


def parts_of(node: Any) -> list[tuple[Any, bool]]:
    """A node and all parts that can be reached from it, each once, and whether it lives as long as the node."""
    found: dict[int, tuple[Any, bool]] = {}
    permanent: list[Any] = [node]
    passing: list[Any] = []
    while permanent or passing:
        lives_on = bool(permanent)
        part = permanent.pop() if lives_on else passing.pop()
        if id(part) in found:
            continue
        found[id(part)] = (part, lives_on)
        for name, value in fields_of(part).items():
            others = list(parts_within(value))
            (permanent if lives_on and is_part(value) and not is_assigned(part, name) else passing).extend(others)
    return list(found.values())


@cache
def assignments() -> frozenset[tuple[str, str]]:
    """Class and attribute of each assignment outside of an `__init__` in the modules of parts; no class if it is not to `self`."""
    found: set[tuple[str, str]] = set()

    def visit(node: ast.AST, kind: str, within: str) -> None:
        if isinstance(node, ast.ClassDef):
            kind = node.name
        if isinstance(node, ast.FunctionDef):
            within = node.name
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del) and within != "__init__":
            found.add((kind if isinstance(node.value, ast.Name) and node.value.id == "self" else "", node.attr))
        for child in ast.iter_child_nodes(node):
            visit(child, kind, within)

    for package in ("replication", "protocols"):
        for file in (SOURCE / package).rglob("*.py"):
            visit(ast.parse(file.read_text(encoding="utf-8")), "", "")
    return frozenset(found)


def is_assigned(part: Any, name: str) -> bool:
    """Whether a field may be assigned after its object was built."""
    return any((kind, name) in assignments() for kind in ["", *(kind.__name__ for kind in type(part).__mro__)])


def is_immutable(value: Any) -> bool:
    """Whether a value cannot change unless its field is assigned."""
    return value is None or isinstance(value, int | float | str | bytes | tuple | frozenset | msgspec.Struct | Enum | type)


def is_state(part: Any, name: str, value: Any, lives_on: bool) -> bool:
    """Whether a field can be different in another state, if its part lives as long as the node, or does not."""
    if callable(value) or isinstance(value, RecordingPort | Random) or is_part(value):
        return False
    if isinstance(value, Mapping) and value and all(map(callable, value.values())):
        return False
    if any(True for _ in parts_within(value)):
        return False
    return not lives_on or is_assigned(part, name) or not is_immutable(value)


def owner(part: Any, name: str) -> str:
    """The class that a field belongs to: the first, from the base on, whose source assigns it. With the protocol's name, if it has one."""
    ours = [kind for kind in reversed(type(part).__mro__) if kind.__module__.startswith(PARTS)]
    kind = next((kind for kind in ours if name in _own_names(kind)), type(part))
    _, package, module, *_ = kind.__module__.split(".")
    return f"{module}.{kind.__name__}" if package == "protocols" else kind.__name__


@cache
def _own_names(kind: type) -> frozenset[str]:
    tree = ast.parse(inspect.getsource(kind).lstrip())
    return frozenset(node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))


def observed(node: Any) -> Any:
    """The snapshot in a form that can be compared; or that there is none, since a field has a value that it cannot have."""
    try:
        return msgspec.msgpack.encode(node.snapshot())
    except Exception as error:
        return type(error).__name__


def judge(nodes: Sequence[Node], seen: set[str], shown: set[str]) -> None:
    """Change each field of each node, and note which were seen, and which of them showed in the snapshot."""
    for node in nodes:
        before = observed(node)
        assert isinstance(before, bytes), f"{type(node).__name__} has no snapshot: {before}"
        for part, lives_on in parts_of(node):
            for name, value in fields_of(part).items():
                if not is_state(part, name, value, lives_on):
                    continue
                for kind, others in changes(value):
                    key = f"{owner(part, name)}.{name}{kind}"
                    seen.add(key)
                    if key in shown:
                        continue
                    for other in others:
                        object.__setattr__(part, name, other)
                        with suppress(Exception):
                            if observed(node) != before:
                                shown.add(key)
                        object.__setattr__(part, name, value)
                        if key in shown:
                            break
        assert observed(node) == before


def fields(protocol: str) -> tuple[set[str], set[str]]:
    """The fields of a protocol's nodes, and those with a change that never showed."""
    seen: set[str] = set()
    shown: set[str] = set()
    for durable in (False, True):
        for nodes in moments(protocol, durable):
            judge(nodes, seen, shown)
    return {field_of(key) for key in seen}, {field_of(key) for key in seen - shown}


def field_of(key: str) -> str:
    """The field that a kind of change is of."""
    return key.partition(" ")[0]


def test_every_field_of_a_nodes_state_shows_in_its_snapshot() -> None:
    found = [fields(protocol) for protocol in catalog.protocol_names()]
    seen: set[str] = set().union(*(seen for seen, _ in found))
    hidden: set[str] = set().union(*(hidden for _, hidden in found))
    listed = NOT_IN_SNAPSHOT
    assert sorted(hidden - listed.keys()) == [], "snapshot() forgets these fields; add them to it, or to NOT_IN_SNAPSHOT with the reason"
    assert sorted(listed.keys() - seen) == [], "there are no such fields any more; remove them from NOT_IN_SNAPSHOT"
    assert sorted(listed.keys() - hidden) == [], "snapshot() has these fields; remove them from NOT_IN_SNAPSHOT"


def test_a_field_that_is_left_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Server.snapshot

    def forgetful(self: Server) -> Any:
        return {name: value for name, value in original(self).items() if name != "committed"}

    monkeypatch.setattr(Server, "snapshot", forgetful)
    _, hidden = fields("unreplicated")
    assert hidden - NOT_IN_SNAPSHOT.keys() == {"ReplicatedState.committed"}
