"""Histories of calls and their outcomes. In a file, each line is one operation as a JSON object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec


class Operation(msgspec.Struct, gc=False):
    """One call. Times are nanoseconds of one clock that all callers share.

    - `process`: the caller, which makes one call at a time;
    - `operation`: the encoded operation;
    - `called_ns`: when the call began;
    - `returned_ns`, `result`: when the result arrived, and the result. Both are None if the outcome is unknown: the operation may have
      taken effect at any time since the call, may still take effect, or may never do so;
    - `error`: the error with which a call without a result ended; None while it has not ended.
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
    """The operations as lines, including the line ends."""
    for operation in operations:
        yield _encode(operation) + b"\n"


def from_lines(lines: Iterable[bytes]) -> Iterator[Operation]:
    """The operations in the lines of a history. Raises `msgspec.DecodeError` naming a line that is not an operation."""
    for number, line in enumerate(lines, 1):
        try:
            yield _decode(line)
        except msgspec.DecodeError as error:
            raise msgspec.DecodeError(f"line {number}: {error}") from None
