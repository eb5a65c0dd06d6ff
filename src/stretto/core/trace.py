"""The trace of a run, which a host may write: typed records, one JSON object in each line.

Equal runs give equal bytes, so `cmp` can compare two traces. Times are nanoseconds of the host's clock; `node` is the address of the node
that the record is about. A message is an object with the name of its type first and then its fields; bytes are in Base64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from operator import or_
from typing import Any, TypeAlias

import msgspec

from stretto.core.node import Address, Message


class TraceRecord(msgspec.Struct, frozen=True, tag_field="record", tag=str.lower, gc=False):
    """The base of all records."""

    time_ns: int
    node: Address


class Sent(TraceRecord, frozen=True, gc=False):
    """`node` sent a message to `destination`, or to the whole group if that is null."""

    destination: Address | None
    message: dict[str, Any]


class Delivered(TraceRecord, frozen=True, gc=False):
    """`node` handled a message from `source`."""

    source: Address
    message: dict[str, Any]


class Dropped(TraceRecord, frozen=True, gc=False):
    """A message from `source` did not reach `node`, because of `reason`."""

    source: Address
    reason: str
    message: dict[str, Any]


class TimerFired(TraceRecord, frozen=True, tag="timer", gc=False):
    """A timer of `node` fired."""

    name: str


class FaultBegun(TraceRecord, frozen=True, tag="fault-begun", gc=False):
    """A fault began. `node` is the node that fails, or -1 for the network; `details` holds the parameters of the fault."""

    fault: str
    details: dict[str, Any]


class FaultEnded(TraceRecord, frozen=True, tag="fault-ended", gc=False):
    """A fault ended."""

    fault: str


class Called(TraceRecord, frozen=True, tag="call", gc=False):
    """A caller at the client `node` began an operation."""

    process: int
    operation: bytes


class Returned(TraceRecord, frozen=True, tag="return", gc=False):
    """The caller's operation ended with a result or with the name of an error."""

    process: int
    result: bytes | None
    error: str | None


class Reported(TraceRecord, frozen=True, tag="report", gc=False):
    """A node reported a rare event."""

    event: str
    details: dict[str, Any]


Tracer: TypeAlias = Callable[[TraceRecord], None]
"""Takes the records of a host."""

_RECORDS = (Sent, Delivered, Dropped, TimerFired, FaultBegun, FaultEnded, Called, Returned, Reported)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(reduce(or_, _RECORDS)).decode


def described(message: Message) -> dict[str, Any]:
    """Return a message in the form that records hold."""
    return {"type": type(message).__name__, **msgspec.structs.asdict(message)}


def to_line(record: TraceRecord) -> bytes:
    """Encode a record as one line, with the line end."""
    return _encode(record) + b"\n"


def from_lines(lines: Iterable[bytes]) -> Iterator[TraceRecord]:
    """Decode the lines of a trace. Raises `msgspec.DecodeError` (or its subclass `ValidationError`) at a line that is no record."""
    for line in lines:
        record: TraceRecord = _decode(line)
        yield record
