"""What is replicated: a deterministic state machine whose operations can be undone."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable
from zlib import crc32

import msgspec

Undo: TypeAlias = Any
"""What a state machine needs to undo one operation; opaque to its callers. None: the operation changed nothing."""

encode = msgspec.msgpack.Encoder(order="deterministic").encode
"""Encode plain data canonically, as MessagePack: equal data gives equal bytes. Used for snapshots and for other state that is compared."""


FAILURE = b"\xc1"
"""The first byte of a result that says that the operation failed. No MessagePack value begins with it. The array [name, text] follows."""

UNCOMPARED_FAILURE = "OperationFailed"
"""The name of failures whose texts are not compared: they are those of Python's own exceptions, and may differ between interpreters."""

_decode_failure = msgspec.msgpack.Decoder(tuple[str, str]).decode


def comparable(result: bytes) -> bytes:
    """What must be equal in the results of one operation on two replicas: all of it, except for the text of some failures."""
    if result[:1] == FAILURE:
        try:
            name, _ = _decode_failure(memoryview(result)[1:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return result
        if name == UNCOMPARED_FAILURE:
            return FAILURE
    return result


def checksum(result: bytes | None) -> int:
    """A checksum (CRC-32) of what must be equal in a result; None is the result of a request that was refused."""
    return 0 if result is None else crc32(comparable(result))


class StateMachine(Protocol):
    """A deterministic state machine with undo: the same operations in the same order give the same results and the same state.

    Replication needs no more than this. Most services are written as a `stretto.Service`, which is more convenient.
    """

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        """Run one operation and return its result and what undoes it.

        `time_ns` (nanoseconds since 1970, never less than for the operation before) and `entropy` (32 random bits) come with the operation,
        so they are the same on every replica. The machine must use no other time and no other randomness. It must not raise, whatever the
        bytes are: an operation that makes no sense has a result that says so. A result that begins with `FAILURE` is compared as
        `comparable` says.
        """

    def undo(self, undo: Undo) -> None:
        """Undo the last operation that is not undone yet. Afterwards the state is bit for bit what it was before that operation."""

    def snapshot(self) -> bytes:
        """The whole state in canonical form: equal states give equal bytes, whatever operations led to them."""

    def restore(self, snapshot: bytes) -> None:
        """Replace the state by the one that `snapshot` was taken of."""


@runtime_checkable
class VersionedMachine(StateMachine, Protocol):
    """A state machine whose code has versions. Which one is active is part of its state, and of a snapshot; it begins with 1.

    - `code_version`: the newest version that this code can be. `version`: the active one.
    """

    code_version: int
    version: int

    def change_version(self, version: int, time_ns: int, entropy: int) -> bytes:
        """Make `version` active and return that number, encoded; if the change fails, change nothing and return a failure.

        `version` is not below the active one and not above `code_version`. This cannot be undone.
        """

    def signature(self, version: int) -> tuple[str, ...]:
        """What this code says of a version: lines for people, in order, which must be equal on all replicas that run that version."""


class SingleVersion:
    """A plain state machine as a VersionedMachine that has one version only."""

    code_version = 1
    version = 1

    def __init__(self, machine: StateMachine) -> None:
        self._name = type(machine).__name__
        self.execute = machine.execute
        self.undo = machine.undo
        self.snapshot = machine.snapshot
        self.restore = machine.restore

    def change_version(self, version: int, time_ns: int, entropy: int) -> bytes:
        """See VersionedMachine. There is no other version to change to."""
        return encode(version)

    def signature(self, version: int) -> tuple[str, ...]:
        """See VersionedMachine."""
        return (f"state machine {self._name}",)


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
