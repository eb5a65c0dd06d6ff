"""The service that explored clusters replicate: every result contains the whole history that led to it."""

from __future__ import annotations

import msgspec

from stretto.core.state_machine import Undo

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


class Ledger:
    """A state machine whose state is the sequence of its operations; the result of each is that sequence, itself included.

    No other service could reveal more: an order of operations that explains these results explains the results of any service. So if a set
    of calls is linearizable for this service, it is for all services.
    """

    def __init__(self) -> None:
        self.operations: list[bytes] = []

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        """See `stretto.core.state_machine.StateMachine`."""
        self.operations.append(operation)
        return _encode(self.operations), operation

    def undo(self, undo: Undo) -> None:
        """See `stretto.core.state_machine.StateMachine`. Raises AssertionError if this was not the last operation."""
        last = self.operations.pop()
        assert last == undo, f"{undo!r} is undone, but the last operation was {last!r}"

    def snapshot(self) -> bytes:
        """See `stretto.core.state_machine.StateMachine`."""
        return _encode(self.operations)

    def restore(self, snapshot: bytes) -> None:
        """See `stretto.core.state_machine.StateMachine`."""
        self.operations = _decode(snapshot)


def operations_of(result: bytes) -> tuple[bytes, ...]:
    """The operations in a result; the last one is the operation that it is the result of."""
    return tuple(_decode(result))
