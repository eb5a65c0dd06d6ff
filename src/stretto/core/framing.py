"""Messages into datagrams and back.

A datagram is a header followed by one or more messages as one MessagePack array. The messages that a node sends to one destination
during one burst of input leave in as few datagrams as possible, so every protocol gets cheaper per message as the load grows.

    offset  bytes  field
    0       2      magic, "St"
    2       1      version of this layout
    3       1      length of the authentication tag; always 0 in this version
    4       8      cluster: the digest of the configuration
    12      8      sender's address
    20      -      (authentication tag)
    20      3      MessagePack array header: 0xdc and the number of messages
    23      -      the messages

Decoding validates: bytes from the network give either messages or `Refused` with a reason that can be counted. A stream carries the same
frames, each with its length before it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

import msgspec

from stretto.core.node import Address, Message

MAGIC = b"St"
VERSION = 2
CLUSTER_BYTES = 8
_HEADER = struct.Struct(">2sBB8sQBH")
_sender_at = struct.Struct(">Q").unpack_from
_SENDER_OFFSET = 12
_COUNT_OFFSET = 21
HEADER_BYTES = _HEADER.size
_ARRAY16 = 0xDC
_FIRST_ARRAY16 = 16
_MAX_MESSAGES = 0xFFFF
_BODY_OFFSET = 20


class Refused(Exception):
    """These bytes are not a frame for this node. `reason` is one of a few fixed phrases, so that it can be counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Framing:
    """Packs and unpacks the frames of one node.

    Parameters: `cluster`, eight bytes that identify the cluster and its configuration; `sender`, this node's address; `message_types`, the
    types of messages that this node accepts; `max_datagram_bytes`, the largest datagram, header included.
    """

    def __init__(self, cluster: bytes, sender: Address, message_types: Sequence[type[Message]], max_datagram_bytes: int) -> None:
        assert len(cluster) == CLUSTER_BYTES
        self._header = _HEADER.pack(MAGIC, VERSION, 0, cluster, sender, _ARRAY16, 0)
        self._expected = self._header[:_SENDER_OFFSET]
        self._max_bytes = max_datagram_bytes
        self._encode_into = msgspec.msgpack.Encoder().encode_into
        self._decode = msgspec.msgpack.Decoder(list[reduce(or_, message_types)]).decode  # type: ignore[misc]

    def pack(self, messages: Sequence[Message], max_messages: int = _MAX_MESSAGES) -> tuple[list[bytes], list[bytes]]:
        """Return the messages as datagrams, in order, and the messages too large for a datagram as frames for a stream.

        `max_messages` is the largest number of messages in one datagram.
        """
        if 0 < len(messages) <= max_messages:
            frame = self._together(messages)
            if len(frame) <= self._max_bytes:
                return [bytes(frame)], []
        return self._one_by_one(messages, max_messages)

    def _together(self, messages: Sequence[Message]) -> bytearray:
        """All messages in one frame, made by one call of the encoder. The caller checks whether it fits."""
        frame = bytearray(self._header)
        if len(messages) < _FIRST_ARRAY16:
            # The encoder writes an array header of one byte. It overwrites the last of our three header bytes; the count then replaces it.
            self._encode_into(messages, frame, HEADER_BYTES - 1)
            frame[HEADER_BYTES - 1] = len(messages)
        else:
            self._encode_into(messages, frame, _BODY_OFFSET)
        return frame

    def _one_by_one(self, messages: Sequence[Message], max_messages: int) -> tuple[list[bytes], list[bytes]]:
        """As many datagrams as needed, each filled as far as possible."""
        datagrams: list[bytes] = []
        oversize: list[bytes] = []
        encode_into = self._encode_into
        limit = self._max_bytes
        frame = bytearray(self._header)
        count = 0
        for message in messages:
            start = len(frame)
            encode_into(message, frame, start)
            count += 1
            if len(frame) > limit:
                encoded = frame[start:]
                if HEADER_BYTES + len(encoded) > limit:
                    oversize.append(_counted(self._header + encoded, 1))
                    del frame[start:]
                    count -= 1
                    continue
                del frame[start:]
                datagrams.append(_counted(frame, count - 1))
                frame = bytearray(self._header + encoded)
                count = 1
            if count == max_messages:
                datagrams.append(_counted(frame, count))
                frame = bytearray(self._header)
                count = 0
        if count:
            datagrams.append(_counted(frame, count))
        return datagrams, oversize

    def unpack(self, frame: bytes) -> tuple[Address, list[Any]]:
        """Return the sender that the frame names, and its messages. Raises Refused and nothing else, whatever the bytes are."""
        if not frame.startswith(self._expected):
            raise Refused(_why_not(frame, self._expected))
        try:
            return _sender_at(frame, _SENDER_OFFSET)[0], self._decode(frame[_BODY_OFFSET:])
        except struct.error:
            raise Refused("datagram cut short") from None
        except msgspec.ValidationError:
            raise Refused("not a message of this protocol") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refused("cannot be decoded") from None


def _counted(frame: bytearray | bytes, count: int) -> bytes:
    framed = bytearray(frame)
    framed[_COUNT_OFFSET : _COUNT_OFFSET + 2] = count.to_bytes(2, "big")
    return bytes(framed)


def _why_not(frame: bytes, expected: bytes) -> str:
    if not frame:
        return "empty datagram"
    if not frame.startswith(MAGIC):
        return "not a Stretto datagram"
    if len(frame) < HEADER_BYTES:
        return "datagram cut short"
    if frame[2] != VERSION:
        return "another version"
    if frame[3] != 0:
        return "authentication not supported"
    return "another cluster or configuration"
