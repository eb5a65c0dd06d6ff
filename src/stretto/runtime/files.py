"""The data directory of a replica: the interfaces of `stretto.storage.files` on a real file system."""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from time import monotonic_ns
from typing import Any

from stretto.core.errors import ConfigurationError
from stretto.storage.files import StorageFailure

_UNFINISHED = ".unfinished"
_REMEMBERED_SYNCS = 1_024


class ReadOnlyDirectory:
    """Reads the files of `directory`, also while a replica uses it. Raises ConfigurationError if it does not exist."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise ConfigurationError("there is no such directory", file=directory)
        self.place = str(directory)
        self._directory = directory

    def names(self) -> list[str]:
        """See `ReadableFiles`."""
        with self._failing("cannot be listed"):
            return [name for name in os.listdir(self._directory) if not name.endswith(_UNFINISHED)]

    def read(self, name: str) -> bytes:
        """See `ReadableFiles`."""
        file = self._directory / name
        if not file.exists():
            raise FileNotFoundError(file)
        with self._failing("cannot be read", name):
            return file.read_bytes()

    @contextmanager
    def _failing(self, what: str, name: str = "") -> Iterator[None]:
        """Turn an OSError into a StorageFailure that says what could not be done."""
        try:
            yield
        except OSError as error:
            hint = "; free some space, then start the replica again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise StorageFailure(f"{self._directory / name} {what}: {error.strerror}{hint}") from None


def _make(directory: Path) -> None:
    """Make the directory and its parents durably, so that they exist after a power failure."""
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for made in missing:
        descriptor = os.open(made.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class DirectoryFiles(ReadOnlyDirectory):
    """The files of `directory`, which is made if needed. This process has exclusive use of it until `close`.

    Raises ConfigurationError if the directory cannot be made or opened, or if another process uses it.
    """

    def __init__(self, directory: Path) -> None:
        self.fsyncs = self.bytes_written = 0
        self._counting = Lock()
        self._sync_ns: deque[int] = deque(maxlen=_REMEMBERED_SYNCS)
        self._appended: dict[str, int] = {}
        try:
            _make(directory)
            self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ConfigurationError(f"cannot be used for the replica's data: {error.strerror}", file=directory) from None
        super().__init__(directory)
        try:
            self._take()
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        """Lock the directory, remove unfinished files, and make the directory entries of an earlier process durable."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError("is in use by another replica process", file=self._directory) from None
        with self._failing("cannot be cleared of what was left unfinished"):
            for unfinished in self._directory.glob("*" + _UNFINISHED):
                unfinished.unlink()
        self._fsync(self._descriptor, self.place)

    def close(self) -> None:
        """Unlock the directory."""
        for descriptor in (*self._appended.values(), self._descriptor):
            os.close(descriptor)
        self._appended.clear()

    def append(self, name: str, data: bytes | bytearray) -> None:
        """See `Files`."""
        with self._failing("cannot be written", name):
            self._write(self._open(name), data)

    def sync(self, name: str) -> None:
        """See `Files`."""
        began_ns = monotonic_ns()
        with self._failing("cannot be synced", name):
            os.fdatasync(self._open(name))
        self._sync_ns.append(monotonic_ns() - began_ns)
        self._count(fsyncs=1)

    def replace(self, name: str, chunks: Iterable[bytes | bytearray]) -> None:
        """See `Files`."""
        unfinished = self._directory / (name + _UNFINISHED)
        try:
            with self._failing("cannot be written", name), unfinished.open("wb", buffering=0) as file:
                for chunk in chunks:
                    self._write(file.fileno(), chunk)
                self._fsync(file.fileno(), name)
        except StorageFailure:
            with suppress(OSError):
                unfinished.unlink()  # a full disk may be the reason for the failure
            raise
        with self._failing("cannot be put in its place", name):
            unfinished.rename(self._directory / name)
        self._fsync(self._descriptor, self.place)

    def remove(self, name: str) -> None:
        """See `Files`."""
        with self._failing("cannot be removed", name):
            (self._directory / name).unlink()
            descriptor = self._appended.pop(name, None)
            if descriptor is not None:
                os.close(descriptor)

    def metrics(self) -> dict[str, Any]:
        """How much was written and synced, and the median and p99 of the last thousand burst syncs, in microseconds."""
        times = sorted(self._sync_ns)
        each = {name: times[int(fraction * (len(times) - 1))] / 1e3 if times else None for name, fraction in (("p50", 0.5), ("p99", 0.99))}
        return {"fsyncs": self.fsyncs, "bytes_persisted": self.bytes_written, "fsync_us": each}

    def _open(self, name: str) -> int:
        descriptor = self._appended.get(name)
        if descriptor is None:
            descriptor = self._appended[name] = os.open(self._directory / name, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        return descriptor

    def _write(self, descriptor: int, data: bytes | bytearray) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        self._count(bytes_written=len(data))

    def _fsync(self, descriptor: int, what: str) -> None:
        with self._failing("cannot be synced", what):
            os.fsync(descriptor)
        self._count(fsyncs=1)

    def _count(self, fsyncs: int = 0, bytes_written: int = 0) -> None:
        with self._counting:  # a compaction counts from its own thread
            self.fsyncs += fsyncs
            self.bytes_written += bytes_written
