"""What a store needs of a directory, and how that may fail.

The runtime has a real one; the simulation has one that tears, loses and damages what is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from stretto.core.errors import StrettoError

REPAIR = "nothing of it was used; start this replica with --repair, which sets the directory aside and recovers from the other replicas"


class StorageFailure(StrettoError):
    """The directory could not be read, written or synced, so what is on disk is not known. The process must end; it never tries again."""


class Corrupt(StrettoError):
    """A file is not what was written: says which, at which byte, what is wrong, and how to repair it.

    Parameters: `file`, with its directory; `offset`, in bytes; `reason`, a sentence.
    """

    def __init__(self, file: str, offset: int, reason: str) -> None:
        self.file = file
        self.offset = offset
        self.reason = reason
        super().__init__(f"{file}: byte {offset}: {reason}; {REPAIR}")


class ReadableFiles(Protocol):
    """A flat directory, to be read. Every method may raise StorageFailure."""

    @property
    def place(self) -> str:
        """What people know the directory by."""

    def names(self) -> list[str]:
        """The files, in any order; not those that a `replace` left unfinished."""

    def read(self, name: str) -> bytes:
        """All of a file. Raises FileNotFoundError if there is none."""


class Files(ReadableFiles, Protocol):
    """A flat directory that one process at a time has for itself. Every method may raise StorageFailure.

    What an earlier process left here is taken to be as durable as it will ever be: who opens the directory sees to that.
    """

    def append(self, name: str, data: bytes | bytearray) -> None:
        """Add to the end of a file that exists. A crash before the next `sync` leaves any part of it."""

    def sync(self, name: str) -> None:
        """Return when all that was appended to the file is durable."""

    def replace(self, name: str, chunks: Iterable[bytes | bytearray]) -> None:
        """Make a file with this content, in place of one of that name if there is one, atomically; return when it is durable.

        It may run in a thread of its own, beside calls about other files.
        """

    def remove(self, name: str) -> None:
        """Remove a file. It may be there again after a crash."""
