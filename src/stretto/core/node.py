"""The contract between a protocol and the host that drives it.

Each role of a protocol (replica, sequencer, client) is a **node**: a plain object that owns no socket, clock, thread or random source. Its
**host** calls it, and the node acts through the **port** that it was built with. The simulator, the runtime and the explorer are three
hosts of the same nodes. A node cannot tell which host it has.

A node is deterministic: the same calls have the same effects. So it reads no wall clock, orders nothing by `hash()` or `id()`, and never
iterates over a set if the order could reach a message. Times are integer nanoseconds; names end in their unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol, TypeAlias

import msgspec

from stretto.core.errors import StrettoError
from stretto.core.state_machine import StateMachine

Address: TypeAlias = int
"""Identifies a node. The address of a replica is its index in the configuration; the addresses of the sequencers follow. All other numbers
are addresses of clients. The runtime computes a client's address from its IPv4 address and port (`ip << 16 | port`), so it needs no
directory of clients."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The base of all messages. A subclass states its `tag`, a small integer that is unique within its protocol."""


class Busy(Message, frozen=True, array_like=True, tag=25, gc=False):
    """A host to the other members: my node has been handling one thing for so long, and cannot speak for itself.

    It comes from the host and not from the node, so it says only that the process is alive.
    """

    for_ms: int


class Port(Protocol):
    """What a node may ask of its host. A call takes effect at once and returns no answer; answers come as later calls of the node."""

    @property
    def address(self) -> Address:
        """The node's own address, which its messages have as their source."""

    @property
    def now_ns(self) -> int:
        """Nanoseconds of the host's monotonic clock."""

    @property
    def wall_ns(self) -> int | None:
        """Nanoseconds since 1970 by the host's wall clock, which may be wrong and may jump; None if the host has no such clock."""

    @property
    def random(self) -> Random:
        """The node's own source of randomness, seeded by the host."""

    def send(self, destination: Address, message: Message) -> None:
        """Send a message to one address. It may be lost, duplicated, delayed or reordered; it is never changed.

        Messages to one destination that the node sends during one burst of input share datagrams.
        """

    def multicast(self, message: Message) -> None:
        """Send a message to all replicas. Multicasts arrive mostly, but not always, in the same order at all of them."""

    def set_timer(self, name: str, delay_ns: int) -> None:
        """Ask for `on_timer(name)` after `delay_ns`. This replaces a timer of the same name that has not fired yet.

        With a delay of 0, the timer fires at the end of the current burst of input, so that what it sends shares datagrams with the rest.
        """

    def cancel_timer(self, name: str) -> None:
        """Forget the timer, if it is waiting."""

    @property
    def durable(self) -> bool:
        """Whether the host keeps what is persisted. If not, the node need not call `persist` and `compact`."""

    @property
    def late_ns(self) -> int:
        """How much later than it was due the timer that fires now does so, since the host was busy or stood still; in nanoseconds."""

    @property
    def written(self) -> int | None:
        """How much of what was ever persisted is durable, as a number that only rises, also over restarts; None if that is not known."""

    def persist(self, record: Message) -> None:
        """Put a record on disk. No message that is sent after this call leaves before the record is durable.

        The records of one burst of input are one unit: after a crash, either all of them are there or none.
        """

    def identify(self, first: Sequence[int]) -> None:
        """Keep the first incarnations of all replicas: this one is in service. Also a host without a disk may keep that little."""

    def compact(self, records: Sequence[Message]) -> None:
        """Replace everything that was persisted before, the records of this burst included, by `records`.

        This is atomic and may happen in the background: the older records are kept until it is complete.
        """

    def stop(self, reason: str, *, distrust: bool = False) -> None:
        """Stop this node, for this reason. The host does not call it again, and what it sent in this burst does not leave.

        `distrust`: what the node has persisted must not be used again; the next start has to begin without it.
        """

    def report(self, event: str, **details: Any) -> None:
        """Report an event that is rare and worth knowing (a new view, a repair). The host writes it to its log or trace."""


class Node(Protocol):
    """What a host may call. Calls never overlap, and the port never calls the node back."""

    def on_message(self, source: Address, message: Any) -> None:
        """Handle a decoded message. Whatever the message says, this does not raise and the node stays usable."""

    def on_timer(self, name: str) -> None:
        """Handle a timer that the node set and that has now fired."""

    def snapshot(self) -> Any:
        """The whole state as canonical plain data: equal states give equal snapshots.

        Where the state holds a time, the snapshot says only whether the time has passed. So equal states at different times are recognised.
        """

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges as plain data, for monitoring."""

    def check_invariants(self) -> None:
        """Raise AssertionError if the node's state contradicts itself. Cheap enough to run after every step of a simulation."""


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
    """A log and the state after executing it, as observers read it."""

    @property
    def log(self) -> LogView:
        """The log."""

    @property
    def committed(self) -> int:
        """The last position that is known to be committed."""

    @property
    def machine(self) -> StateMachine:
        """The replicated state machine, after executing the whole log."""

    def result_at(self, position: int) -> bytes | None:
        """The result of the entry at a position; None if it was refused because of its session."""

    def snapshot(self) -> Any:
        """The state after executing the log, application and sessions, as canonical plain data."""

    def replayed_on(self, machine: StateMachine) -> Any:
        """The `snapshot` after executing the present log from its start on a fresh `machine`."""


class Replica(Node, Protocol):
    """A node that keeps a log, with the properties that observers read."""

    @property
    def view(self) -> int:
        """The view that it is in or tries to enter; 0 if the protocol has no views."""

    @property
    def leader(self) -> int:
        """The replica that leads the view."""

    @property
    def state(self) -> ExecutedLog:
        """Its log, and the state after executing it."""


Done: TypeAlias = Callable[["bytes | StrettoError"], None]
"""Takes the end of a call: the result of the operation, or the error that says what is certain about it."""


class Client(Node, Protocol):
    """A node that makes calls for one process, any number at the same time."""

    def call(self, operation: bytes, time_ns: int | None, done: Done, timeout_ns: int | None = None) -> None:
        """Replicate `operation`, and call `done` exactly once.

        `time_ns`: the time with which the request is stamped, in nanoseconds since 1970; None for the cluster's time.
        `timeout_ns`: after this time without an answer, the call ends with an error; None for the configuration's `request_timeout_ms`.
        `done` may be called before this returns (if the operation is too large), and may itself call `call`.
        """
