"""The contract between a protocol and the world that drives it.

A protocol role (a replica, a sequencer, a client) is a **node**: a plain object that owns no socket, clock, thread or random source. Its
host calls it; it answers through the **port** it was built with. A simulator, a real runtime and an exhaustive search are three
hosts of the same nodes, and a node cannot tell which one it is in.

Rules for a node: the same calls give the same answers, so no wall clock, no `hash()` or `id()` that orders anything, and no
iteration over a set whose order reaches a message. Time is integer nanoseconds; names end in their unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol, TypeAlias

import msgspec

from stretto.core.errors import StrettoError
from stretto.core.state_machine import StateMachine

Address: TypeAlias = int
"""Where a message goes. A replica's address is its index in the configuration, and sequencers, if there are any, are numbered on behind the
replicas; any other number is a client's. The real runtime makes a client's address of its IPv4 address and port (`ip << 16 | port`), so
that it needs no directory."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The base of all messages. A subclass states its `tag`, a small integer that is unique within its protocol."""


class Port(Protocol):
    """What a node may ask of the world. Calls go out directly; nothing is returned but by a later call of the node."""

    @property
    def address(self) -> Address:
        """The node's own address: what others see as the source of its messages."""

    @property
    def now_ns(self) -> int:
        """Monotonic nanoseconds, as this world counts them."""

    @property
    def random(self) -> Random:
        """A seeded source of randomness, the node's own."""

    def send(self, destination: Address, message: Message) -> None:
        """One message to one address. It may be lost, doubled, late, or overtake another; it is never changed.

        Messages to one destination that are sent while the node handles one burst of input share datagrams.
        """

    def multicast(self, message: Message) -> None:
        """One message to the whole replica group, mostly in the same order at all of them."""

    def set_timer(self, name: str, delay_ns: int) -> None:
        """Ask for `on_timer(name)` after `delay_ns`. A timer of the same name that is still waiting is replaced.

        With no delay: at the end of the present burst of input, so that what it sends leaves with the rest.
        """

    def cancel_timer(self, name: str) -> None:
        """Forget the timer, if it is waiting."""

    @property
    def durable(self) -> bool:
        """Whether this world keeps what is persisted. If not, `persist` and `compact` need not be called."""

    def persist(self, record: Message) -> None:
        """State what must be on disk before anything that is sent after this call leaves.

        All that is persisted in one burst of input is one unit: after a crash, all of it is there or none.
        """

    def compact(self, records: Sequence[Message]) -> None:
        """State that `records` stand for everything that was persisted before, this burst's records included, which may be forgotten.

        It is atomic too, and may happen in the background: until it has, the older records are kept.
        """

    def stop(self, reason: str) -> None:
        """This node must not go on: say why, and call it no more. What it sent in this burst does not leave."""

    def report(self, event: str, **details: Any) -> None:
        """Tell people something that is rare and worth knowing (a view entered, a repair). Goes to the log or the trace."""


class Node(Protocol):
    """What the world may call. Its host never calls it from two places at once, nor from within a call of its port."""

    def on_message(self, source: Address, message: Any) -> None:
        """One decoded message has arrived. Whatever it says, this neither raises nor kills the node."""

    def on_timer(self, name: str) -> None:
        """A timer that the node set has fired."""

    def snapshot(self) -> Any:
        """The whole state as plain data, canonical: equal states give equal snapshots.

        Of a remembered time it tells whether what depends on it is due, not when that was: so states are recognised again as time passes.
        """

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges as plain data, for people and programs that watch."""

    def check_invariants(self) -> None:
        """Raise AssertionError if the node's own state contradicts itself. Cheap enough to run after every step of a simulation."""


class LogView(Protocol):
    """A log as observers read it. Positions count from 1."""

    @property
    def start(self) -> int:
        """The log has the entries after this position; what is at or before it has been compacted to a checkpoint."""

    @property
    def last(self) -> int:
        """The last position, speculative entries included."""

    def hash_at(self, position: int) -> bytes:
        """The summary hash at a position from `start` to `last`: equal hashes mean equal logs up to there."""

    def entry_at(self, position: int) -> Message:
        """The request at a position after `start` and up to `last`."""


class ExecutedLog(Protocol):
    """A log and what executing it left, as observers read it."""

    @property
    def log(self) -> LogView:
        """The log."""

    @property
    def committed(self) -> int:
        """The last position that is known to stay for ever."""

    @property
    def machine(self) -> StateMachine:
        """The replicated state machine, as the whole log left it."""

    def result_at(self, position: int) -> bytes | None:
        """What executing the entry at a position gave; None where it was refused for its session."""

    def snapshot(self) -> Any:
        """What the log's execution left: application and sessions, as canonical plain data."""

    def replayed_on(self, machine: StateMachine) -> Any:
        """What `snapshot` gives when the log, as it stands now, is executed from its start on a fresh `machine`."""


class Replica(Node, Protocol):
    """A node that keeps a log, and what anyone who watches it from outside may read."""

    @property
    def view(self) -> int:
        """The view it is in or is trying to enter; 0 where the protocol has none."""

    @property
    def leader(self) -> int:
        """The replica that leads the view."""

    @property
    def state(self) -> ExecutedLog:
        """Its log, and what executing it left."""


Done: TypeAlias = Callable[["bytes | StrettoError"], None]
"""How a call ends: with the operation's result, or with the error that says what is known of it."""


class Client(Node, Protocol):
    """A node that carries the calls of one process, as many at once as it is given."""

    def call(self, operation: bytes, time_ns: int, done: Done) -> None:
        """Replicate `operation`, stamped with the caller's wall-clock time in nanoseconds, and call `done` exactly once.

        `done` may be called before this returns (an operation that is too large), and may itself call `call`.
        """
