"""Histories: who called what when, and what came of it. One JSON object an operation, one operation a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec


class Operation(msgspec.Struct, gc=False):
    """One call. Times are nanoseconds of one clock that all callers share.

    - `process`: the caller, which makes one call at a time;
    - `operation`: the encoded operation;
    - `called_ns`: when the call began;
    - `returned_ns`, `result`: when its result was there, and the result. Both are None of an operation whose outcome is not known: it may
      have taken effect at any time since the call, may yet, or may never;
    - `error`: how a call without a result ended; None while it has not.
    """

    process: int
    operation: bytes
    called_ns: int
    returned_ns: int | None = None
    result: bytes | None = None
    error: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Operation).decode


def to_lines(operations: Iterable[Operation]) -> Iterator[bytes]:
    """The operations as lines, their ends included."""
    for operation in operations:
        yield _encode(operation) + b"\n"


def from_lines(lines: Iterable[bytes]) -> Iterator[Operation]:
    """The operations of a history's lines. Raises `msgspec.DecodeError` naming the line that is none."""
    for number, line in enumerate(lines, 1):
        try:
            yield _decode(line)
        except msgspec.DecodeError as error:
            raise msgspec.DecodeError(f"line {number}: {error}") from None
