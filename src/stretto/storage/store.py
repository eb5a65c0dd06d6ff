"""The store persists a replica's records burst by burst. A crash at any moment preserves all bursts that were synced.

Each incarnation begins with new files: it reads the existing ones and writes their content again, as a checkpoint and an empty segment. It
therefore never appends to a torn end, and does not rely on data in the page cache whose write to disk failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.core.node import Message
from stretto.storage.contents import FIRST_GENERATION, File, checkpoint_name, generation_of, read_contents, segment_name
from stretto.storage.files import Corrupt, Files, ReadableFiles, StorageFailure
from stretto.storage.format import CHECKPOINT, HEADER_BYTES, SEGMENT, Codec, Header, Identity, file_seed, mark

_END_BITS = 40
"""How many bits the end of a segment may have."""

_RECORDS_A_FRAME = 1_000
"""Records per frame of a checkpoint: few enough that the thread that encodes them lets other threads run in between."""


def decode_records(codec: Codec, files: ReadableFiles, contents: Sequence[File]) -> list[Any]:
    """Decode the records of the files in use, in order. Raises Corrupt if a frame holds something else."""
    records: list[Any] = []
    for file in contents:
        for frame in file.frames:
            try:
                records += codec.records(frame)
            except msgspec.MsgspecError as error:
                raise Corrupt(f"{files.place}/{file.name}", frame.offset, f"these are not records of this protocol: {error}") from None
    return records


class Compaction:
    """Writes records that replace everything before a segment into a checkpoint. `done`: the checkpoint is durable."""

    def __init__(self, files: Files, codec: Codec, identity: Identity, generation: int, records: Sequence[Message]) -> None:
        self.done = False
        self._files = files
        self._codec = codec
        self._generation = generation
        self._header = Header(CHECKPOINT, identity, generation).encode()
        self._records = records

    def run(self) -> None:
        """Write the checkpoint, then remove the files that it replaces. It may run in its own thread. Raises StorageFailure."""
        self._files.replace(checkpoint_name(self._generation), self._chunks())
        for name in self._files.names():
            if any((found := generation_of(name, kind)) is not None and found < self._generation for kind in (SEGMENT, CHECKPOINT)):
                self._files.remove(name)
        self._records = ()
        self.done = True

    def _chunks(self) -> Iterator[bytes | bytearray]:
        yield self._header
        seed, end = file_seed(self._header), HEADER_BYTES
        for first in range(0, len(self._records), _RECORDS_A_FRAME):
            frame = self._codec.frame(self._records[first : first + _RECORDS_A_FRAME], seed, end)
            end += len(frame)
            yield frame
        yield mark(seed, end)


class Store:
    """The records of one replica in a directory.

    Parameters: `files`, which the store owns from now on; `identity`, the owner of the records; `record_types`, their types. `records`
    holds what earlier incarnations persisted, oldest first. Set it to an empty list after use to free the memory.

    Raises Corrupt, StorageFailure, and ConfigurationError if the directory belongs to another replica.
    """

    def __init__(self, files: Files, identity: Identity, record_types: Sequence[type[Message]]) -> None:
        self._files = files
        self._identity = identity
        self._codec = Codec(record_types)
        self._burst: list[Message] = []
        self._compacted: tuple[Sequence[Message], int] | None = None
        self._compaction: Compaction | None = None
        self._failed = False
        self.found = 0
        """`written` of the directory before it was opened."""
        self.append = self._burst.append
        """Add a record to the current burst. The next `sync` writes the whole burst as one unit."""
        contents = read_contents(files)
        for file in contents:
            self._check_owner(file)
        self.records: Sequence[Any] = decode_records(self._codec, files, contents)
        self._begin(contents)

    def _check_owner(self, file: File) -> None:
        found, own = file.header.identity, self._identity
        if found == own:
            return
        reason = (
            f"this is data of replica {found.index} with protocol {found.protocol}, not of replica {own.index} with protocol {own.protocol}"
        )
        if (found.index, found.protocol) == (own.index, own.protocol):
            reason = "this was written with other replicas, or another service, in the configuration"
        raise ConfigurationError(reason, file=f"{self._files.place}/{file.name}")

    def _begin(self, contents: list[File]) -> None:
        """Write the content that was read into new files."""
        if not contents:
            return self._open_segment(FIRST_GENERATION, 0)
        last = contents[-1]
        self.found = last.header.generation << _END_BITS | last.end
        self._files.sync(last.name)  # the next segment's header names this end
        self._open_segment(last.header.generation + 1, last.end)
        return self._new_compaction(self.records).run()

    def _open_segment(self, generation: int, former_end: int) -> None:
        header = Header(SEGMENT, self._identity, generation, former_end).encode()
        self._generation = generation
        self._segment = segment_name(generation)
        self._seed = file_seed(header)
        self._end = self._synced = HEADER_BYTES
        self._files.replace(self._segment, [header])

    def _new_compaction(self, records: Sequence[Message]) -> Compaction:
        self._compaction = Compaction(self._files, self._codec, self._identity, self._generation, records)
        return self._compaction

    @property
    def written(self) -> int:
        """How much was ever written and is durable, as a number that only rises: the generation and the end of the present segment."""
        return self._generation << _END_BITS | self._synced

    @property
    def pending(self) -> bool:
        """Whether anything is not durable yet."""
        return bool(self._burst) or self._compacted is not None

    def compact(self, records: Sequence[Message]) -> None:
        """Replace everything appended before by `records`. Records appended after this call, before the next `sync`, follow them.

        Does nothing while an earlier compaction runs: the files grow until the next one.
        """
        if self._compaction is None or self._compaction.done:
            self._compacted = (records, len(self._burst))

    def sync(self) -> Compaction | None:
        """Make everything that was appended durable, as one unit: after a crash either all of it exists or none.

        After `compact`, returns the rest of that work. It may `run` at any later time, in any thread, or never.

        Raises StorageFailure. After one failure every further call fails without a retry, because the content of the disk is unknown.
        """
        if self._failed:
            raise StorageFailure(f"{self._files.place}: an earlier write has failed")
        self._failed = True  # until the writes below have succeeded
        if self._burst:
            self._write_frame()
        compaction = None if self._compacted is None else self._rotate(*self._compacted)
        self._burst.clear()
        self._compacted = None
        self._failed = False
        return compaction

    def _write_frame(self) -> None:
        files, segment = self._files, self._segment
        frame = self._codec.frame(self._burst, self._seed, self._end)
        files.append(segment, frame)
        files.sync(segment)
        self._synced = self._end + len(frame)
        closing = mark(self._seed, self._synced)
        files.append(segment, closing)
        self._end = self._synced + len(closing)

    def _rotate(self, records: Sequence[Message], compacted: int) -> Compaction:
        """Begin the next segment. The checkpoint of everything before it is still to be written."""
        self._open_segment(self._generation + 1, self._synced)
        return self._new_compaction([*records, *self._burst[compacted:]])
