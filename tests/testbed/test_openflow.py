"""Frames are encoded and decoded, and no bytes from a switch raise an exception."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from stretto.testbed import openflow
from stretto.testbed.openflow import Field, Flow, FlowEntry, FlowMod, Group, GroupMod, Output, SetField, ToGroup, decode, encode

FLOW = Flow(
    0,
    1001,
    (
        Field(openflow.IN_PORT, b"\0\0\0\3"),
        Field(openflow.ETH_SRC, b"\2STABC", b"\xff\xff\xff\xff\0\0"),
        Field(openflow.ETH_TYPE, b"\x08\0"),
    ),
    (SetField(Field(openflow.IP_DSCP, b"\x2e")), ToGroup(6), Output(openflow.PORT_IN)),
    1,
)


def flow_stats(flow: Flow, more: bool) -> bytes:
    """A reply as a switch sends it, made from a flow-mod's match and instructions."""
    rest = FlowMod(flow).body()[40:]
    entry = struct.pack("!HBxIIHHHH4xQQQ", 48 + len(rest), flow.table, 9, 9, flow.priority, 0, 0, 0, 77, 5, 500) + rest
    return struct.pack("!HH4x", 1, more) + entry


def test_a_flow_mod_is_laid_out_as_the_standard_says() -> None:
    frame = encode(FlowMod(Flow(1, 7, (Field(openflow.ETH_TYPE, b"\x08\0"),), (Output(3),)), cookie=0x0102), 9)
    assert frame.hex(" ", 8) == (
        "040e005800000009"  # version 1.3, flow mod, 88 bytes, transaction 9
        " 0000000000000102 0000000000000000 0100000000000007 ffffffffffffffff ffffffff00000000"
        " 0001000a80000a02 0800000000000000"  # the match and its padding
        " 0004001800000000 0000001000000003 0000000000000000"
    )
    assert decode(*parts(frame)) == openflow.Unknown(14)  # only switches decode flow mods


def test_a_flow_is_decoded_from_its_stats() -> None:
    flow = FLOW._replace(match=tuple(sorted(FLOW.match)))
    for given_flow in (flow, flow._replace(goto=None), flow._replace(actions=()), flow._replace(other=bytes.fromhex("0006000800000007"))):
        reply = decode(19, flow_stats(given_flow, more=True))
        assert reply == openflow.MultipartReply(1, True, (FlowEntry(given_flow, 77, 5),))


def test_a_group_is_decoded_from_its_description() -> None:
    group = Group(6, ((Output(2),), (Output(3),)))
    body = GroupMod(group).body()
    entry = struct.pack("!H", len(body)) + body[2:]
    assert decode(19, struct.pack("!HH4x", 7, 0) + entry) == openflow.MultipartReply(7, False, (group,))


def test_ports_are_up_unless_they_or_their_links_are_down() -> None:
    def port(number: int, config: int, state: int) -> bytes:
        return struct.pack("!I4x6s2x16sII24x", number, bytes(6), b"port1", config, state)

    body = struct.pack("!HH4x", 13, 0) + port(1, 0, 4) + port(2, 1, 0) + port(3, 0, 1)
    reply = decode(19, body)
    assert isinstance(reply, openflow.MultipartReply)
    assert [entry.up for entry in reply.entries if isinstance(entry, openflow.Port)] == [True, False, False]
    assert decode(12, b"\2" + bytes(7) + port(1, 0, 4)) == openflow.PortStatus(openflow.Port(1, "port1", True))
    assert decode(12, b"\1" + bytes(7) + port(1, 0, 4)) == openflow.PortStatus(openflow.Port(1, "port1", False))


@given(st.integers(0, 255), st.binary(max_size=300))
@settings(max_examples=500, deadline=None)
def test_bytes_never_raise(kind: int, body: bytes) -> None:
    decode(kind, body)
    decode(19, struct.pack("!HH4x", kind % 14, 0) + body)


@given(st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=4), st.integers(0, 160))
@settings(max_examples=500, deadline=None)
def test_damaged_replies_never_raise(damage: list[tuple[int, int]], end: int) -> None:
    body = bytearray(flow_stats(FLOW, more=False))
    for place, value in damage:
        body[place % len(body)] = value
    decode(19, bytes(body[:end]))


def parts(frame: bytes) -> tuple[int, bytes]:
    version, kind, length, _ = openflow.HEADER.unpack_from(frame)
    assert (version, length) == (4, len(frame))
    return kind, frame[8:]
