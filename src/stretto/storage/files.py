"""The directory interface that a store needs, and its errors.

The runtime implements it on a real file system. The simulation implements it with torn, lost and damaged writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from stretto.core.errors import StrettoError

REPAIR = "no data was used; start this replica with --repair, which sets the directory aside and recovers from the other replicas"


class StorageFailure(StrettoError):
    """The directory could not be read, written or synced, so the content of the disk is unknown. The process must end without a retry."""


class Corrupt(StrettoError):
    """A file differs from what was written. The message names the file, the byte, the reason, and how to repair it.

    Parameters: `file`, with its directory; `offset`, in bytes; `reason`, a sentence.
    """

    def __init__(self, file: str, offset: int, reason: str) -> None:
        self.file = file
        self.offset = offset
        self.reason = reason
        super().__init__(f"{file}: byte {offset}: {reason}; {REPAIR}")


class ReadableFiles(Protocol):
    """A flat directory, for reading. Every method may raise StorageFailure."""

    @property
    def place(self) -> str:
        """The directory's name in messages."""

    def names(self) -> list[str]:
        """The names of the files, in any order, without those that an interrupted `replace` left."""

    def read(self, name: str) -> bytes:
        """The whole content of a file. Raises FileNotFoundError if it does not exist."""


class Files(ReadableFiles, Protocol):
    """A flat directory that one process at a time has for itself. Every method may raise StorageFailure.

    The implementation makes the directory entries that an earlier process left durable when it opens the directory.
    """

    def append(self, name: str, data: bytes | bytearray) -> None:
        """Append to an existing file. A crash before the next `sync` may leave any part of the data."""

    def sync(self, name: str) -> None:
        """Make everything that was appended to the file durable."""

    def replace(self, name: str, chunks: Iterable[bytes | bytearray]) -> None:
        """Atomically create a file with this content, or replace the file of that name. The file is durable when this returns.

        It may run in its own thread, concurrently with calls about other files.
        """

    def remove(self, name: str) -> None:
        """Remove a file. It may exist again after a crash."""
