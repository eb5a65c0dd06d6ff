"""What a host may record of a run: typed records, one JSON object a line.

The same run gives the same bytes, so two traces are compared with `cmp`. Times are nanoseconds of the host's clock; `node` is the address
of the node that the record is about. A message stands as an object with its type's name first and then its fields; bytes are Base64.
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
    """A message left `node` for `destination`, or for the whole group if that is null."""

    destination: Address | None
    message: dict[str, Any]


class Delivered(TraceRecord, frozen=True, gc=False):
    """A message of `source` was handled by `node`."""

    source: Address
    message: dict[str, Any]


class Dropped(TraceRecord, frozen=True, gc=False):
    """A message of `source` did not reach `node`, because of `reason`."""

    source: Address
    reason: str
    message: dict[str, Any]


class TimerFired(TraceRecord, frozen=True, tag="timer", gc=False):
    """A timer of `node` fired."""

    name: str


class FaultBegun(TraceRecord, frozen=True, tag="fault-begun", gc=False):
    """A fault began. `node` is the one it strikes, or -1 if that is the network; `details` says how hard."""

    fault: str
    details: dict[str, Any]


class FaultEnded(TraceRecord, frozen=True, tag="fault-ended", gc=False):
    """A fault that had begun ended."""

    fault: str


class Called(TraceRecord, frozen=True, tag="call", gc=False):
    """A caller at the client `node` began an operation."""

    process: int
    operation: bytes


class Returned(TraceRecord, frozen=True, tag="return", gc=False):
    """The caller's operation ended: with a result, or with the name of an error."""

    process: int
    result: bytes | None
    error: str | None


class Reported(TraceRecord, frozen=True, tag="report", gc=False):
    """A node told something rare about itself."""

    event: str
    details: dict[str, Any]


Tracer: TypeAlias = Callable[[TraceRecord], None]
"""Where a host puts its records."""

_RECORDS = (Sent, Delivered, Dropped, TimerFired, FaultBegun, FaultEnded, Called, Returned, Reported)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(reduce(or_, _RECORDS)).decode


def described(message: Message) -> dict[str, Any]:
    """A message as a record holds it."""
    return {"type": type(message).__name__, **msgspec.structs.asdict(message)}


def to_line(record: TraceRecord) -> bytes:
    """The record as one line, the end of the line included."""
    return _encode(record) + b"\n"


def from_lines(lines: Iterable[bytes]) -> Iterator[TraceRecord]:
    """The records of a trace's lines. Raises `msgspec.DecodeError` (or its subclass `ValidationError`) at a line that is none."""
    for line in lines:
        record: TraceRecord = _decode(line)
        yield record
