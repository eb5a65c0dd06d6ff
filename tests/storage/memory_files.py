"""Files in memory that can crash: data that was not synced is lost, partly or completely, as after a power failure."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from stretto.core.node import Message
from stretto.storage.files import StorageFailure
from stretto.storage.format import Identity
from stretto.storage.store import Store

SECTOR = 512
OWNER = Identity(b"clusters", 1, "speculative")


class Item(Message, frozen=True, array_like=True, tag=40, gc=False):
    """A record for tests."""

    number: int
    text: bytes = b""


class Crash(Exception):
    """The process ended before this call did anything."""


class MemoryFiles:
    """A directory. `calls_left`: how many more changing calls succeed before one raises `failure`; None means all."""

    place = "memory"

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.synced: dict[str, int] = {}
        self.calls: list[str] = []
        self.calls_left: int | None = None
        self.failure: type[Exception] = Crash

    def _count(self, call: str) -> None:
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise self.failure(call)
            self.calls_left -= 1
        self.calls.append(call)

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(name)
        return bytes(self.files[name])

    def append(self, name: str, data: bytes | bytearray) -> None:
        self._count(f"append {name}")
        self.files[name] += data

    def sync(self, name: str) -> None:
        self._count(f"sync {name}")
        self.synced[name] = len(self.files[name])

    def replace(self, name: str, chunks: Iterable[bytes | bytearray]) -> None:
        self._count(f"replace {name}")
        self.files[name] = bytearray().join(chunks)
        self.synced[name] = len(self.files[name])

    def remove(self, name: str) -> None:
        self._count(f"remove {name}")
        del self.files[name], self.synced[name]

    def power_cut(self, random: Random) -> MemoryFiles:
        """The directory after a power failure: of the unsynced data some sectors, up to a random length, and zeros for the others."""
        left = MemoryFiles()
        for name, data in self.files.items():
            kept, synced = bytearray(data), self.synced[name]
            for sector in range(synced // SECTOR * SECTOR, len(kept), SECTOR):
                if random.random() < 0.4:
                    first, last = max(sector, synced), min(sector + SECTOR, len(kept))
                    kept[first:last] = bytes(last - first)
            if random.random() < 0.5:
                del kept[random.randint(synced, len(kept)) :]
            left.files[name], left.synced[name] = kept, len(kept)
        return left

    def copy(self) -> MemoryFiles:
        """A copy of the files, with all of their content synced."""
        other = MemoryFiles()
        other.files = {name: bytearray(data) for name, data in self.files.items()}
        other.synced = {name: len(data) for name, data in self.files.items()}
        return other


def opened(files: MemoryFiles) -> Store:
    """A store on these files."""
    return Store(files, OWNER, (Item,))


def numbers(store: Store) -> list[int]:
    """The numbers of the records that the store read when it was opened."""
    return [record.number for record in store.records]


__all__ = ["OWNER", "Crash", "Item", "MemoryFiles", "StorageFailure", "numbers", "opened"]
