"""What is replicated: a deterministic state machine whose operations can be undone."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import msgspec

Undo: TypeAlias = Any
"""What a state machine needs to undo one operation; opaque to everyone else. None: the operation changed nothing."""

encode = msgspec.msgpack.Encoder(order="deterministic").encode
"""Encode plain data canonically, as MessagePack: equal data gives equal bytes. For snapshots, and for whatever else replicas compare."""


class StateMachine(Protocol):
    """A deterministic state machine with undo: the same operations in the same order give the same results and the same state.

    Services are written more conveniently as a `stretto.Service`; this is what the replication below them needs.
    """

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        """Run one operation and return its result and what undoes it.

        `time_ns` (nanoseconds since 1970 by the client's clock) and `entropy` (32 random bits) came with the operation: they are the
        same on every replica, and the only time and randomness there is. Whatever the bytes are, this does not raise: an operation
        that makes no sense has a result that says so.
        """

    def undo(self, undo: Undo) -> None:
        """Take back the last operation that is not undone yet. Afterwards the state is what it was before it, bit for bit."""

    def snapshot(self) -> bytes:
        """The whole state, canonical: equal states give equal bytes, however they came about."""

    def restore(self, snapshot: bytes) -> None:
        """Become the state that `snapshot` was taken of."""


class NullMachine:
    """A state machine that does nothing: what is left is the cost of replication alone."""

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        return b"", None

    def undo(self, undo: Undo) -> None:
        pass

    def snapshot(self) -> bytes:
        return b""

    def restore(self, snapshot: bytes) -> None:
        pass
