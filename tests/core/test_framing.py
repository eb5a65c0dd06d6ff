"""Frames: what is packed comes back, limits hold, and bytes from the network give messages or Refused, nothing else."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from stretto.core.framing import CLUSTER_BYTES, HEADER_BYTES, VERSION, Framing, Refused
from stretto.core.node import Message


class Request(Message, frozen=True, array_like=True, tag=1, gc=False):
    client: Annotated[int, Meta(ge=0, lt=1 << 48)]
    number: int
    note: str
    operation: bytes


class Fetch(Message, frozen=True, array_like=True, tag=2, gc=False):
    first: int
    last: int | None


class Entries(Message, frozen=True, array_like=True, tag=3, gc=False):
    first: int
    entries: list[Request]
    numbers: dict[int, int]


CLUSTER = bytes(range(CLUSTER_BYTES))
SENDER = (0x7F000001 << 16) | 4711
TYPES: tuple[type[Message], ...] = (Request, Fetch, Entries)
LIMIT = 64  # small, so that random messages fill datagrams and overflow them

numbers = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
requests = st.builds(Request, st.integers(0, (1 << 48) - 1), numbers, st.text(max_size=5), st.binary(max_size=2 * LIMIT))
entries = st.builds(Entries, numbers, st.lists(requests, max_size=3), st.dictionaries(numbers, numbers, max_size=3))
messages = st.one_of(requests, st.builds(Fetch, numbers, numbers), entries)


def framing(limit: int = LIMIT) -> Framing:
    return Framing(CLUSTER, SENDER, TYPES, limit)


def refusal(frame: bytes) -> str:
    with pytest.raises(Refused) as caught:
        framing().unpack(frame)
    return caught.value.reason


def messages_or_reason(frame: bytes) -> str | None:
    """None if the frame holds messages, and then only of the types that are expected here; else why it is refused."""
    try:
        _, unpacked = framing().unpack(frame)
    except Refused as refused:
        return refused.reason
    assert all(isinstance(message, TYPES) for message in unpacked)
    return None


VALID = framing(512).pack([Request(1, 2, "three", b"four"), Entries(5, [Request(6, 7, "", b"")], {8: 9})])[0][0]


@given(st.lists(messages, max_size=30), st.integers(1, 5))
def test_what_is_packed_comes_back_in_order_and_within_the_limits(sent: list[Message], max_messages: int) -> None:
    datagrams, oversize = framing().pack(sent, max_messages)
    received: list[Message] = []
    for datagram in datagrams:
        assert len(datagram) <= LIMIT
        sender, unpacked = framing().unpack(datagram)
        assert sender == SENDER
        assert 1 <= len(unpacked) <= max_messages
        received += unpacked
    large: list[Message] = []
    for frame in oversize:
        assert len(frame) > LIMIT
        sender, unpacked = framing().unpack(frame)
        assert sender == SENDER
        assert len(unpacked) == 1
        large += unpacked
    alone = {id(message) for message in sent if len(framing(1 << 30).pack([message])[0][0]) > LIMIT}
    assert received == [message for message in sent if id(message) not in alone]
    assert large == [message for message in sent if id(message) in alone]


@given(st.lists(st.builds(Fetch, numbers, numbers), min_size=2, max_size=60))
def test_no_datagram_is_sent_that_fits_into_the_one_before(sent: list[Message]) -> None:
    datagrams, _ = framing().pack(sent)
    for first, second in pairwise(datagrams):
        head = framing().unpack(second)[1][0]
        assert len(first) + len(framing().pack([head])[0][0]) - HEADER_BYTES > LIMIT


def test_more_messages_than_one_frame_can_count() -> None:
    sent = [Fetch(1, 1)] * 65_537
    datagrams, _ = framing(1 << 30).pack(sent)
    assert [len(framing().unpack(datagram)[1]) for datagram in datagrams] == [65_535, 2]


def test_a_message_that_exactly_fits_is_a_datagram() -> None:
    empty = len(framing().pack([Request(0, 0, "", bytes(8))])[0][0]) - 8
    fits, over = Request(0, 0, "", bytes(LIMIT - empty)), Request(0, 0, "", bytes(LIMIT - empty + 1))
    assert [len(part) for part in framing().pack([fits])] == [1, 0]
    assert [len(part) for part in framing().pack([over])] == [0, 1]
    assert [len(part) for part in framing().pack([Fetch(1, 2), fits])] == [2, 0]
    assert [len(part) for part in framing().pack([Fetch(1, 2), over, Fetch(1, 2)])] == [1, 1]


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_junk_is_refused(junk: bytes) -> None:
    assert refusal(junk)


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_a_right_header_with_any_body_gives_messages_or_is_refused(body: bytes) -> None:
    assert messages_or_reason(VALID[:20] + body) in (None, "cannot be decoded", "not a message of this protocol")


@settings(max_examples=500)
@given(st.data())
def test_a_valid_frame_that_was_changed_gives_messages_or_is_refused(data: st.DataObject) -> None:
    frame = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    messages_or_reason(bytes(frame))


@pytest.mark.parametrize("length", range(len(VALID)))
def test_a_frame_that_was_cut_is_refused(length: int) -> None:
    assert refusal(VALID[:length])


def test_nesting_without_end_is_refused() -> None:
    assert refusal(VALID[:20] + b"\x91" * 60_000) in ("cannot be decoded", "not a message of this protocol")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "empty datagram"),
        (b"GET / HTTP/1.1\r\n", "not a Stretto datagram"),
        (VALID[:10], "datagram cut short"),
        (VALID[:2] + bytes([VERSION + 1]) + VALID[3:], "another version"),
        (VALID[:3] + b"\x10" + VALID[4:], "authentication not supported"),
        (VALID[:4] + bytes(8) + VALID[12:], "another cluster or configuration"),
        (VALID[:-1], "cannot be decoded"),
        (VALID + b"\x00", "cannot be decoded"),
        (framing().pack([Fetch(1, 2)])[0][0].replace(b"\x93\x02", b"\x93\x7f"), "not a message of this protocol"),
        (framing().pack([Request(1 << 48, 0, "", b"")])[0][0], "not a message of this protocol"),
        (framing().pack([Request(1, 0, "note", b"")])[0][0].replace(b"note", b"\xff\xfe\xfd\xfc"), "cannot be decoded"),
    ],
)
def test_the_reason_says_what_was_wrong(frame: bytes, reason: str) -> None:
    assert refusal(frame) == reason
