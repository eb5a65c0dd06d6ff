"""The layout, which later versions must still read."""

from __future__ import annotations

import pytest
from memory_files import OWNER, Item

from stretto.storage.format import (
    CHECKPOINT,
    SEGMENT,
    BadHeader,
    Codec,
    Header,
    Identity,
    OtherVersion,
    decode_header,
    file_seed,
    frames_of,
    good_frame_after,
    mark,
)

HEADER = "53744c67 0001 0001 636c757374657273 73706563756c61746976650000000000 0000000000000003 0000000000000134 fb9b618c"
FRAME = "f5537466 0000000d 23d170d9 9ba9eecd 92 932807c4026162 932808c400"
MARK = "f5537466 00000000 00000000 9e190f60"


def test_a_segment_byte_by_byte() -> None:
    header = Header(SEGMENT, OWNER, 3, 308).encode()
    assert header.hex() == HEADER.replace(" ", "")
    seed = file_seed(header)
    frame = Codec((Item,)).frame([Item(7, b"ab"), Item(8)], seed, len(header))
    assert frame.hex() == FRAME.replace(" ", "")
    assert mark(seed, len(header) + len(frame)).hex() == MARK.replace(" ", "")


def test_a_written_segment_is_read_again() -> None:
    file = bytes.fromhex(HEADER + FRAME + MARK)
    assert decode_header(file) == Header(SEGMENT, OWNER, 3, 308)
    frame, closing = frames_of(file, file_seed(file))
    assert Codec((Item,)).records(frame) == [Item(7, b"ab"), Item(8)]
    assert Codec((Item,)).records(closing) == []
    assert closing.end == len(file)


def test_a_frame_is_valid_only_at_its_own_place() -> None:
    file = bytes.fromhex(HEADER + FRAME)
    assert list(frames_of(file, file_seed(file) ^ 1)) == []
    shifted = file[:52] + bytes(1) + file[52:]
    assert list(frames_of(shifted, file_seed(file))) == []
    assert good_frame_after(shifted, file_seed(file), 52) is None


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (b"", "the file has 0 bytes, fewer than its header"),
        (bytes(52), "checksum of the header is wrong"),
        (Header(b"Else", OWNER, 1).encode(), "neither a segment nor a checkpoint"),
    ],
)
def test_invalid_headers_are_refused(header: bytes, part: str) -> None:
    with pytest.raises(BadHeader, match=part):
        decode_header(header)


def test_a_later_version_is_distinguished_from_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stretto.storage.format.VERSION", 2)
    later = Header(CHECKPOINT, Identity(bytes(8), 0, "x"), 1).encode()
    monkeypatch.undo()
    with pytest.raises(OtherVersion, match="version 2; this Stretto knows version 1"):
        decode_header(later)
