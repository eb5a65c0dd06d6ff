"""What is replicated: a deterministic state machine whose operations can be undone."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import msgspec

Undo: TypeAlias = Any
"""What a state machine needs to undo one operation; opaque to its callers. None: the operation changed nothing."""

encode = msgspec.msgpack.Encoder(order="deterministic").encode
"""Encode plain data canonically, as MessagePack: equal data gives equal bytes. Used for snapshots and for other state that is compared."""


class StateMachine(Protocol):
    """A deterministic state machine with undo: the same operations in the same order give the same results and the same state.

    Replication needs no more than this. Most services are written as a `stretto.Service`, which is more convenient.
    """

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        """Run one operation and return its result and what undoes it.

        `time_ns` (nanoseconds since 1970 by the client's clock) and `entropy` (32 random bits) come with the operation, so they are the
        same on every replica. The machine must use no other time and no other randomness. It must not raise, whatever the bytes are: an
        operation that makes no sense has a result that says so.
        """

    def undo(self, undo: Undo) -> None:
        """Undo the last operation that is not undone yet. Afterwards the state is bit for bit what it was before that operation."""

    def snapshot(self) -> bytes:
        """The whole state in canonical form: equal states give equal bytes, whatever operations led to them."""

    def restore(self, snapshot: bytes) -> None:
        """Replace the state by the one that `snapshot` was taken of."""


class NullMachine:
    """A state machine that does nothing, to measure the cost of replication alone."""

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        return b"", None

    def undo(self, undo: Undo) -> None:
        pass

    def snapshot(self) -> bytes:
        return b""

    def restore(self, snapshot: bytes) -> None:
        pass
