"""The part of OpenFlow 1.3 (Open Networking Foundation, TS-006) that a controller of multicast needs: messages as structs, and as bytes.

A frame is a header (version, type, length, transaction) and a body. `decode` never raises: an unknown or invalid message is returned as
`Unknown`. Unknown parts of a flow are kept as bytes, so that the flow can be compared, described and deleted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, NamedTuple, TypeAlias

import msgspec

VERSION = 4
"""OpenFlow 1.3 on the wire."""
HEADER = struct.Struct("!BBHI")
ANY = 0xFFFFFFFF
NO_BUFFER = 0xFFFFFFFF
ALL_TABLES = 0xFF
PORT_IN = 0xFFFFFFF8
"""The reserved port that stands for the port of arrival. A switch sends a packet back there only through this port."""
HIGHEST_PORT = 0xFFFFFF00
ETH_TYPE_IPV4 = b"\x08\x00"

_FLOW_MOD = struct.Struct("!QQBBHHHIIIH2x")
_FLOW_STATS = struct.Struct("!HBxIIHHHH4xQQQ")
_BUCKET = struct.Struct("!HHII4x")
_GROUP = struct.Struct("!HBxI")
_PORT = struct.Struct("!I4x6x2x16sII24x")
_MULTIPART = struct.Struct("!HH4x")
_MULTIPART_FLOW, _MULTIPART_GROUP_DESC, _MULTIPART_PORT_DESC = 1, 7, 13
_MORE = 1
_OUTPUT, _TO_GROUP, _SET_FIELD = 0, 22, 25
_GOTO_TABLE, _APPLY_ACTIONS = 1, 4
_MATCH_OXM = 1
_PORT_DOWN = _LINK_DOWN = 1
_PORT_DELETED = 1


def _basic(field: int) -> int:
    return 0x8000 << 7 | field


IN_PORT, ETH_SRC, ETH_TYPE, IP_DSCP, IPV4_SRC, IPV4_DST = map(_basic, (0, 4, 5, 8, 11, 12))
"""Kinds of header fields: their class and number, as OXM types."""


class Field(NamedTuple):
    """A header field's value, with a mask, which is empty for an exact value."""

    kind: int
    value: bytes
    mask: bytes = b""


class Output(NamedTuple):
    """An action: send a copy out through this port."""

    port: int


class ToGroup(NamedTuple):
    """An action: pass the packet to a group."""

    group: int


class SetField(NamedTuple):
    """An action: rewrite a header field."""

    field: Field


class OtherAction(NamedTuple):
    """An unknown action, as its bytes."""

    data: bytes


Action: TypeAlias = Output | ToGroup | SetField | OtherAction


class Flow(NamedTuple):
    """An entry of a flow table. Of the matching entries the one with the highest priority acts, and may send the packet to a later table
    (`goto`).

    `match` is sorted. `other` are unknown instructions, as their bytes.
    """

    table: int
    priority: int
    match: tuple[Field, ...]
    actions: tuple[Action, ...] = ()
    goto: int | None = None
    other: bytes = b""

    @property
    def key(self) -> tuple[int, int, tuple[Field, ...]]:
        """The key of the flow, which is unique in a switch."""
        return self[:3]


class Group(NamedTuple):
    """An entry of the group table. A group of kind `ALL` applies each of its buckets to a copy of the packet."""

    number: int
    buckets: tuple[tuple[Action, ...], ...]
    kind: int = 0


ALL = 0
"""The kind of a group that makes a copy for each bucket."""


class Port(NamedTuple):
    """A port of a switch, and whether it is up."""

    number: int
    name: str
    up: bool


class Message(msgspec.Struct, frozen=True):
    """The content of one frame."""

    KIND: ClassVar[int]

    def body(self) -> bytes:
        """The bytes after the header."""
        return b""


class Hello(Message, frozen=True):
    """The first message of both sides."""

    KIND = 0


class Error(Message, frozen=True):
    """A request was refused. `data` is the beginning of the request."""

    KIND = 1
    kind: int
    code: int
    data: bytes


class EchoRequest(Message, frozen=True):
    """Checks whether the other side is alive."""

    KIND = 2
    data: bytes = b""

    def body(self) -> bytes:
        """The data."""
        return self.data


class EchoReply(Message, frozen=True):
    """The answer to an EchoRequest, with the same data."""

    KIND = 3
    data: bytes = b""

    def body(self) -> bytes:
        """The data."""
        return self.data


class FeaturesReply(Message, frozen=True):
    """The id of a switch, and how many tables it has."""

    KIND = 6
    datapath: int
    tables: int


class SetConfig(Message, frozen=True):
    """Sets how much of a packet to send to the controller. Open vSwitch sends PortStatus on a management socket only if this is not 0."""

    KIND = 9
    miss_send_bytes: int

    def body(self) -> bytes:
        """The flags and the length."""
        return struct.pack("!HH", 0, self.miss_send_bytes)


class PortStatus(Message, frozen=True):
    """A port has changed."""

    KIND = 12
    port: Port


class FlowMod(Message, frozen=True):
    """Adds a flow, replacing any with the same key, or deletes the flow with this key."""

    KIND = 14
    flow: Flow
    delete: bool = False
    cookie: int = 0

    def body(self) -> bytes:
        """The encoded change."""
        table, priority, match, actions, goto, other = self.flow
        command = 4 if self.delete else 0
        head = _FLOW_MOD.pack(self.cookie, 0, table, command, 0, 0, priority, NO_BUFFER, ANY, ANY, 0)
        return head + _encode_match(match) + (b"" if self.delete else _encode_instructions(actions, goto) + other)


class GroupMod(Message, frozen=True):
    """Adds a new group, modifies an existing one, or deletes one together with all flows that use it."""

    KIND = 15
    group: Group
    command: int = 0

    def body(self) -> bytes:
        """The encoded change."""
        number, buckets, kind = self.group
        return struct.pack("!HBxI", self.command, kind, number) + (b"" if self.command == GROUP_DELETE else _encode_buckets(buckets))


GROUP_ADD, GROUP_MODIFY, GROUP_DELETE = range(3)


class MultipartRequest(Message, frozen=True):
    """Requests one of the lists FLOWS, GROUPS or PORTS."""

    KIND = 18
    about: int

    def body(self) -> bytes:
        """The request. For flows, it asks for all of them."""
        head = _MULTIPART.pack(self.about, 0)
        return head + (struct.pack("!B3xII4xQQ", ALL_TABLES, ANY, ANY, 0, 0) + _encode_match(()) if self.about == _MULTIPART_FLOW else b"")


FLOWS, GROUPS, PORTS = map(MultipartRequest, (_MULTIPART_FLOW, _MULTIPART_GROUP_DESC, _MULTIPART_PORT_DESC))


class FlowEntry(NamedTuple):
    """A flow as a switch reports it, with the number of packets that it has matched."""

    flow: Flow
    cookie: int
    packets: int


class MultipartReply(Message, frozen=True):
    """The entries of a list (`FlowEntry`, `Group` or `Port`). If `more` is set, further replies follow."""

    KIND = 19
    about: int
    more: bool
    entries: tuple[FlowEntry | Group | Port, ...]


class BarrierRequest(Message, frozen=True):
    """Is answered when all earlier messages have been processed."""

    KIND = 20


class BarrierReply(Message, frozen=True):
    """The answer to a BarrierRequest."""

    KIND = 21


class Unknown(Message, frozen=True):
    """A message of an unknown kind, or an invalid one."""

    KIND = -1
    kind: int


def encode(message: Message, transaction: int) -> bytes:
    """The frame of a message."""
    body = message.body()
    return HEADER.pack(VERSION, message.KIND, HEADER.size + len(body), transaction) + body


def decode(kind: int, body: bytes) -> Message:
    """Decode a frame's type and body. Never raises."""
    decoder = _DECODERS.get(kind)
    try:
        return Unknown(kind) if decoder is None else decoder(body)
    except (struct.error, ValueError):
        return Unknown(kind)


def _encode_field(field: Field) -> bytes:
    payload = field.value + field.mask
    return struct.pack("!I", field.kind << 9 | bool(field.mask) << 8 | len(payload)) + payload


def _encode_match(match: Iterable[Field]) -> bytes:
    fields = b"".join(map(_encode_field, match))
    return _padded(struct.pack("!HH", _MATCH_OXM, 4 + len(fields)) + fields)


def _encode_action(action: Action) -> bytes:
    match action:
        case Output(port):
            return struct.pack("!HHIH6x", _OUTPUT, 16, port, 0)
        case ToGroup(group):
            return struct.pack("!HHI", _TO_GROUP, 8, group)
        case SetField(field):
            data = _padded(bytes(4) + _encode_field(field))
            return struct.pack("!HH", _SET_FIELD, len(data)) + data[4:]
        case OtherAction(data):
            return data


def _encode_instructions(actions: Iterable[Action], goto: int | None) -> bytes:
    encoded = b"".join(map(_encode_action, actions))
    apply = struct.pack("!HH4x", _APPLY_ACTIONS, 8 + len(encoded)) + encoded if encoded else b""
    return apply + (b"" if goto is None else struct.pack("!HHB3x", _GOTO_TABLE, 8, goto))


def _encode_buckets(buckets: Iterable[tuple[Action, ...]]) -> bytes:
    encoded = (b"".join(map(_encode_action, actions)) for actions in buckets)
    return b"".join(_BUCKET.pack(_BUCKET.size + len(actions), 0, ANY, ANY) + actions for actions in encoded)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _decode_fields(data: bytes) -> Iterator[Field]:
    while data:
        (header,) = struct.unpack_from("!I", data)
        payload, data = _cut(data, 4, 4 + (header & 0xFF))
        half = len(payload) // 2 if header >> 8 & 1 else len(payload)
        yield Field(header >> 9, payload[:half], payload[half:])


def _decode_match(data: bytes) -> tuple[tuple[Field, ...], bytes]:
    """The match at the beginning, and the remaining bytes."""
    kind, length = struct.unpack_from("!HH", data)
    if kind != _MATCH_OXM:
        raise ValueError(kind)
    fields, _ = _cut(data, 4, length)
    return tuple(sorted(_decode_fields(fields))), data[-(-length // 8) * 8 :]


def _decode_actions(data: bytes) -> Iterator[Action]:
    while data:
        kind, length = struct.unpack_from("!HH", data)
        action, data = _cut(data, 0, length, least=8)
        if kind == _OUTPUT:
            yield Output(*struct.unpack_from("!I", action, 4))
        elif kind == _TO_GROUP:
            yield ToGroup(*struct.unpack_from("!I", action, 4))
        elif kind == _SET_FIELD:
            (header,) = struct.unpack_from("!I", action, 4)
            yield SetField(next(_decode_fields(_cut(action, 4, 8 + (header & 0xFF))[0])))
        else:
            yield OtherAction(action)


def _decode_instructions(data: bytes) -> tuple[tuple[Action, ...], int | None, bytes]:
    actions: tuple[Action, ...] = ()
    goto, other = None, b""
    while data:
        kind, length = struct.unpack_from("!HH", data)
        instruction, data = _cut(data, 0, length, least=8)
        if kind == _APPLY_ACTIONS:
            actions = tuple(_decode_actions(instruction[8:]))
        elif kind == _GOTO_TABLE:
            goto = instruction[4]
        else:
            other += instruction
    return actions, goto, other


def _decode_flow(data: bytes) -> FlowEntry:
    _, table, _, _, priority, *_, cookie, packets, _ = _FLOW_STATS.unpack_from(data)
    match, rest = _decode_match(data[_FLOW_STATS.size :])
    return FlowEntry(Flow(table, priority, match, *_decode_instructions(rest)), cookie, packets)


def _decode_group(data: bytes) -> Group:
    _, kind, number = _GROUP.unpack_from(data)
    buckets, rest = [], data[_GROUP.size :]
    while rest:
        length, *_ = _BUCKET.unpack_from(rest)
        bucket, rest = _cut(rest, _BUCKET.size, length)
        buckets.append(tuple(_decode_actions(bucket)))
    return Group(number, tuple(buckets), kind)


def _decode_port(data: bytes) -> Port:
    number, name, config, state = _PORT.unpack_from(data)
    return Port(number, name.rstrip(b"\0").decode("ascii", "replace"), not (config & _PORT_DOWN or state & _LINK_DOWN))


def _decode_error(body: bytes) -> Message:
    kind, code = struct.unpack_from("!HH", body)
    return Error(kind, code, body[4:])


def _decode_status(body: bytes) -> Message:
    port = _decode_port(body[8:])
    return PortStatus(port._replace(up=port.up and body[0] != _PORT_DELETED))


def _decode_multipart(body: bytes) -> Message:
    about, flags = _MULTIPART.unpack_from(body)
    rest, entries = body[_MULTIPART.size :], []
    decoders: dict[int, Callable[[bytes], FlowEntry | Group | Port]]
    decoders = {_MULTIPART_FLOW: _decode_flow, _MULTIPART_GROUP_DESC: _decode_group, _MULTIPART_PORT_DESC: _decode_port}
    if about not in decoders:
        raise ValueError(about)
    while rest:
        length = _PORT.size if about == _MULTIPART_PORT_DESC else struct.unpack_from("!H", rest)[0]
        entry, rest = _cut(rest, 0, length, least=8)
        entries.append(decoders[about](entry))
    return MultipartReply(about, bool(flags & _MORE), tuple(entries))


def _cut(data: bytes, start: int, end: int, least: int = 0) -> tuple[bytes, bytes]:
    """`data[start:end]` and the remaining bytes. Raises ValueError if `data` is too short, or if `end` is below `least`."""
    if not max(start, least) <= end <= len(data):
        raise ValueError(end)
    return data[start:end], data[end:]


_DECODERS: dict[int, Callable[[bytes], Message]] = {
    Hello.KIND: lambda body: Hello(),
    Error.KIND: _decode_error,
    EchoRequest.KIND: EchoRequest,
    EchoReply.KIND: EchoReply,
    FeaturesReply.KIND: lambda body: FeaturesReply(*struct.unpack_from("!Q4xB", body)),
    PortStatus.KIND: _decode_status,
    MultipartReply.KIND: _decode_multipart,
    BarrierReply.KIND: lambda body: BarrierReply(),
}
