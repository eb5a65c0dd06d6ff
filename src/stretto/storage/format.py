"""The layout of the files, byte by byte. docs/storage.md describes it too, with the purpose of each part.

A file is a header followed by frames. All numbers are big-endian, all checksums CRC-32.

    offset  bytes  header                                        offset  bytes  frame
    0       4      magic, "StLg" (segment) or "StCp"             0       4      magic, f5 "Stf"
    4       2      version of this layout                        4       4      length of the payload
    6       2      index of the replica                          8       4      checksum of the payload
    8       8      cluster                                       12      4      checksum of bytes 0 to 11, begun with file and offset
    16      16     protocol, padded with zeros                   16      -      payload: the records of one burst, a MessagePack array
    32      8      generation
    40      8      where the previous segment ends, or 0
    48      4      checksum of bytes 0 to 47

The checksum of a frame's own header begins with the checksum of the file's header and the frame's offset, so a frame is valid only at one
offset of one file. A frame without payload is a *mark*: it follows a frame whose sync has returned, and it ends a checkpoint.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any
from zlib import crc32

import msgspec

from stretto.core.node import Message

VERSION = 1
SEGMENT, CHECKPOINT = b"StLg", b"StCp"
KINDS = {SEGMENT: "segment", CHECKPOINT: "checkpoint"}
FRAME_MAGIC = b"\xf5Stf"
_HEADER = struct.Struct(">4sHH8s16sQQI")
_FRAME = struct.Struct(">4sIII")
HEADER_BYTES = _HEADER.size
FRAME_BYTES = _FRAME.size
PROTOCOL_BYTES = 16


class BadHeader(Exception):
    """The first bytes of a file are not a valid header. The message says why, in one sentence."""


class OtherVersion(Exception):
    """A file is intact, but has an unknown version of the layout. The message says which."""


@dataclass(frozen=True)
class Identity:
    """The owner of the records.

    `cluster`: eight bytes, a digest of the configuration values that the records depend on; `index`, the replica's; `protocol`, its
    `data_name`.
    """

    cluster: bytes
    index: int
    protocol: str


@dataclass(frozen=True)
class Header:
    """The header of a file. `former_end`: where the previous segment ends; 0 if there is none, or if this is a checkpoint."""

    kind: bytes
    identity: Identity
    generation: int
    former_end: int = 0

    def encode(self) -> bytes:
        """The header as bytes."""
        owner = self.identity
        protocol = owner.protocol.encode("ascii")
        assert len(protocol) <= PROTOCOL_BYTES
        fields = (self.kind, VERSION, owner.index, owner.cluster, protocol, self.generation, self.former_end)
        unsigned = _HEADER.pack(*fields, 0)[:-4]
        return unsigned + crc32(unsigned).to_bytes(4, "big")


def decode_header(file: bytes) -> Header:
    """Decode the header of a file. Raises BadHeader or OtherVersion."""
    if len(file) < HEADER_BYTES:
        raise BadHeader(f"the file has {len(file)} bytes, fewer than its header")
    kind, version, index, cluster, protocol, generation, former_end, checksum = _HEADER.unpack_from(file)
    if checksum != crc32(file[: HEADER_BYTES - 4]):
        raise BadHeader("the checksum of the header is wrong")
    if version != VERSION:
        raise OtherVersion(f"the layout has version {version}; this Stretto knows version {VERSION}")
    if kind not in KINDS:
        raise BadHeader("this is neither a segment nor a checkpoint")
    return Header(kind, Identity(cluster, index, protocol.rstrip(b"\0").decode("ascii")), generation, former_end)


def file_seed(header: bytes) -> int:
    """The initial checksum value for the frames of a file with this header."""
    return crc32(header[:HEADER_BYTES])


def _frame_header(seed: int, offset: int, length: int, payload_checksum: int) -> bytes:
    unsigned = _FRAME.pack(FRAME_MAGIC, length, payload_checksum, 0)[:-4]
    return unsigned + crc32(unsigned, crc32(offset.to_bytes(8, "big"), seed)).to_bytes(4, "big")


def mark(seed: int, offset: int) -> bytes:
    """A frame without payload."""
    return _frame_header(seed, offset, 0, 0)


@dataclass(frozen=True)
class Frame:
    """An intact frame. `payload` is empty if it is a mark."""

    offset: int
    payload: memoryview

    @property
    def end(self) -> int:
        """The offset after it."""
        return self.offset + FRAME_BYTES + len(self.payload)


def frame_at(file: memoryview, seed: int, offset: int) -> Frame | None:
    """The intact frame at an offset of a file; None if there is none."""
    start = offset + FRAME_BYTES
    if start > len(file):
        return None
    _, length, payload_checksum, _ = _FRAME.unpack_from(file, offset)
    if file[offset:start] != _frame_header(seed, offset, length, payload_checksum):
        return None
    payload = file[start : start + length]
    return Frame(offset, payload) if len(payload) == length and crc32(payload) == payload_checksum else None


def frames_of(file: bytes, seed: int, offset: int = HEADER_BYTES) -> Iterator[Frame]:
    """The intact frames from `offset` on, up to the first gap.

    If an intact frame follows a gap of the size of a mark, the gap was a mark: no other frame is that short, and it holds no data.
    """
    view = memoryview(file)
    while True:
        frame = frame_at(view, seed, offset) or frame_at(view, seed, offset + FRAME_BYTES)
        if frame is None:
            return
        yield frame
        offset = frame.end


def good_frame_after(file: bytes, seed: int, offset: int) -> int | None:
    """The offset of the first intact frame after `offset`; None if there is none."""
    view = memoryview(file)
    while (offset := file.find(FRAME_MAGIC, offset + 1)) >= 0:
        if frame_at(view, seed, offset) is not None:
            return offset
    return None


class Codec:
    """Encodes records into frames and decodes them. `record_types` are the records that a replica of the protocol persists."""

    def __init__(self, record_types: Sequence[type[Message]]) -> None:
        self._encode_into = msgspec.msgpack.Encoder().encode_into
        self._decode = msgspec.msgpack.Decoder(list[reduce(or_, record_types)]).decode  # type: ignore[misc]

    def frame(self, records: Sequence[Message], seed: int, offset: int) -> bytearray:
        """Encode at least one record as the frame for this offset."""
        buffer = bytearray(FRAME_BYTES)
        self._encode_into(records, buffer, FRAME_BYTES)
        payload = memoryview(buffer)[FRAME_BYTES:]
        buffer[:FRAME_BYTES] = _frame_header(seed, offset, len(payload), crc32(payload))
        return buffer

    def records(self, frame: Frame) -> list[Any]:
        """The records of a frame. Raises msgspec.MsgspecError if it holds something else."""
        return self._decode(frame.payload) if frame.payload else []
