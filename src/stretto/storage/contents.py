"""Reading a directory: which files are in use, and whether they are intact.

    checkpoint-G      what was persisted before segment G began; the first segment has none
    log-G.seg         what was persisted after that
    log-(G+1).seg ... later segments, until checkpoint-(G+1) is complete

A crash can only leave the end of the newest segment torn. Everything before that has been synced, so if it is not intact, it was damaged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise

from stretto.core.errors import ConfigurationError
from stretto.storage.files import Corrupt, ReadableFiles
from stretto.storage.format import (
    CHECKPOINT,
    HEADER_BYTES,
    SEGMENT,
    BadHeader,
    Frame,
    Header,
    OtherVersion,
    decode_header,
    file_seed,
    frames_of,
    good_frame_after,
)

FIRST_GENERATION = 1
_NAME = re.compile(r"(?:log-(\d{10})\.seg|checkpoint-(\d{10}))\Z")


def segment_name(generation: int) -> str:
    """The file name of a segment."""
    return f"log-{generation:010}.seg"


def checkpoint_name(generation: int) -> str:
    """The file name of a checkpoint."""
    return f"checkpoint-{generation:010}"


def generation_of(name: str, kind: bytes) -> int | None:
    """The generation in a file name; None if the file is not of that kind."""
    match = _NAME.match(name)
    digits = match and match[1 if kind == SEGMENT else 2]
    return int(digits) if digits else None


@dataclass(frozen=True)
class File:
    """A file that was read. `frames` are its intact frames. The content ends at byte `end` and is followed by `torn_bytes` torn bytes."""

    name: str
    header: Header
    size: int
    frames: list[Frame]
    end: int
    torn_bytes: int = 0


def read_contents(files: ReadableFiles) -> list[File]:
    """Read the files in use, oldest first. The list is empty if nothing was persisted here.

    Raises Corrupt if a file is missing or damaged, ConfigurationError if a file has another version, and StorageFailure if reading fails.
    """
    names = files.names()
    checkpoints = [found for name in names if (found := generation_of(name, CHECKPOINT)) is not None]
    segments = [found for name in names if (found := generation_of(name, SEGMENT)) is not None]
    if not checkpoints and not segments:
        return []
    if not checkpoints and FIRST_GENERATION not in segments:
        raise Corrupt(f"{files.place}/{checkpoint_name(min(segments))}", 0, "the file is missing")
    first = max(checkpoints, default=FIRST_GENERATION)
    read = [_read_checkpoint(files, first)] if checkpoints else []
    chain = [_read_segment(files, generation) for generation in range(first, max([first, *segments]) + 1)]
    return [*read, *(_known_to_next(files, segment, successor) for segment, successor in pairwise(chain)), _newest(files, chain[-1])]


def _read_checkpoint(files: ReadableFiles, generation: int) -> File:
    name = checkpoint_name(generation)
    file, data = _read(files, name, CHECKPOINT, generation)
    if file.end < len(data) or not file.frames or file.frames[-1].payload:
        raise Corrupt(f"{files.place}/{name}", file.end, "there is no intact frame, and the checkpoint does not end here")
    return file


def _read_segment(files: ReadableFiles, generation: int) -> tuple[File, bytes]:
    return _read(files, segment_name(generation), SEGMENT, generation)


def _read(files: ReadableFiles, name: str, kind: bytes, generation: int) -> tuple[File, bytes]:
    place = f"{files.place}/{name}"
    try:
        data = files.read(name)
        header = decode_header(data)
    except FileNotFoundError:
        raise Corrupt(place, 0, "the file is missing") from None
    except BadHeader as bad:
        raise Corrupt(place, 0, str(bad)) from None
    except OtherVersion as other:
        raise ConfigurationError(f"{other}; use the Stretto that wrote it", file=place) from None
    if (header.kind, header.generation) != (kind, generation):
        raise Corrupt(place, 0, "the header belongs to another file")
    frames = list(frames_of(data, file_seed(data)))
    return File(name, header, len(data), frames, frames[-1].end if frames else HEADER_BYTES), data


def _known_to_next(files: ReadableFiles, segment: tuple[File, bytes], successor: tuple[File, bytes]) -> File:
    """A segment up to the end that the next segment's header names. The bytes after that end are a mark, or were torn."""
    file, end = segment[0], successor[0].header.former_end
    if file.end < end:
        raise Corrupt(f"{files.place}/{file.name}", file.end, f"there is no intact frame, although the next segment names {end} bytes")
    return replace(file, end=end, frames=[frame for frame in file.frames if frame.end <= end])


def _newest(files: ReadableFiles, segment: tuple[File, bytes]) -> File:
    """The newest segment. Its last frame may be torn."""
    file, data = segment
    behind = good_frame_after(data, file_seed(data), file.end)
    if behind is not None:
        reason = f"there is no intact frame here, but there is one at byte {behind}, so these bytes are damaged"
        raise Corrupt(f"{files.place}/{file.name}", file.end, reason)
    return replace(file, torn_bytes=file.size - file.end)
