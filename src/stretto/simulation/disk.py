"""A disk in virtual time: writes take time, a crash tears writes in progress, and the disk may fill up, fail, or flip bits.

All file operations of a burst happen at one moment of virtual time, and are then *in progress* for as long as they take. If the machine
crashes meanwhile, they end at a random point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TypeAlias

import msgspec

from stretto.simulation.network import Delay
from stretto.storage.files import StorageFailure

SECTOR_BYTES = 512

Change: TypeAlias = Callable[[], None]


class DiskTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long operations take: `sync`, one sync or the replacement of a file; `compaction`, writing a checkpoint in the background."""

    sync: Delay = Delay("exponential", 50_000, 50_000)
    compaction: Delay = Delay("exponential", 1_000_000, 5_000_000)


class _File:
    """A file: its content, and how much of it is durable."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.durable = len(content)


class Disk:
    """The directory of one replica: it implements `stretto.storage.files.Files` for the store, and can be struck by faults.

    - `slowdown`: every operation takes this many times as long; `full`: writes fail; `failing`: the next sync fails.

    `_undos` undo the operations in progress, the last one first; `_removed` has files whose removal is not durable.
    """

    def __init__(self, place: str, times: DiskTimes, random: Random) -> None:
        self.place = place
        self.slowdown = 1.0
        self.full = False
        self.failing = False
        self._random = random
        self._sync_ns = times.sync.sampler(random)
        self._spent_ns = 0
        self._files: dict[str, _File] = {}
        self._removed: dict[str, _File] = {}
        self._undos: list[Change] = []

    # What the store does

    def names(self) -> list[str]:
        """See `Files`."""
        return list(self._files)

    def read(self, name: str) -> bytes:
        """See `Files`."""
        if name not in self._files:
            raise FileNotFoundError(name)
        return bytes(self._files[name].content)

    def append(self, name: str, data: bytes | bytearray) -> None:
        """See `Files`."""
        content = self._files[name].content
        length = len(content)
        self._undos.append(lambda: content.__delitem__(slice(length, None)))
        if self.full:
            content += data[: self._random.randrange(len(data))]
            raise StorageFailure(f"{self.place}/{name}: no space left on device")
        content += data

    def sync(self, name: str) -> None:
        """See `Files`."""
        file = self._files[name]
        durable = file.durable
        self._spend()
        if self.failing:
            raise StorageFailure(f"{self.place}/{name}: input/output error")
        self._undos.append(lambda: setattr(file, "durable", durable))
        file.durable = len(file.content)

    def replace(self, name: str, chunks: Iterable[bytes | bytearray]) -> None:
        """See `Files`. It makes earlier removals durable."""
        former, removed = self._files.get(name), self._removed
        self._spend()
        if self.full:
            raise StorageFailure(f"{self.place}/{name}: no space left on device")

        def undo() -> None:
            self._removed = removed
            self._put(name, former)

        self._undos.append(undo)
        self._removed = {}
        self._files[name] = _File(b"".join(chunks))

    def remove(self, name: str) -> None:
        """See `Files`."""
        file = self._removed[name] = self._files.pop(name)

        def undo() -> None:
            self._removed.pop(name, None)
            self._put(name, file)

        self._undos.append(undo)

    def _put(self, name: str, file: _File | None) -> None:
        if file is None:
            del self._files[name]
        else:
            self._files[name] = file

    def _spend(self) -> None:
        self._spent_ns += int(self._sync_ns() * self.slowdown)

    # What its machine does

    def take_spent_ns(self) -> int:
        """How long the operations since the last call of this take, in nanoseconds."""
        spent, self._spent_ns = self._spent_ns, 0
        return spent

    def settle(self) -> None:
        """The operations in progress are complete."""
        self._undos.clear()

    def crash(self) -> None:
        """Stop the operations in progress. Any part of the unsynced data may remain, and removed files may exist again."""
        for _ in range(self._random.randint(0, len(self._undos))):
            self._undos.pop()()
        self._undos.clear()
        for name, file in self._removed.items():
            if self._random.random() < 0.5:
                self._files.setdefault(name, file)
        self._removed.clear()
        for file in self._files.values():
            self._tear(file)

    def _tear(self, file: _File) -> None:
        """Of the data since the last sync, keep nothing, all, a beginning, or any sectors."""
        content, durable, random = file.content, file.durable, self._random
        kind = random.randrange(4)
        if kind == 3:
            for sector in range(durable - durable % SECTOR_BYTES, len(content), SECTOR_BYTES):
                first, end = max(sector, durable), min(sector + SECTOR_BYTES, len(content))
                if random.random() < 0.5:
                    content[first:end] = bytes(end - first)
        if kind != 1:
            del content[durable if kind == 0 else random.randint(durable, len(content)) :]
        file.durable = len(content)

    # For faults

    def keep_all(self) -> None:
        """Make durable everything that was written: only the process crashes, not the machine."""
        self.settle()
        self._removed.clear()
        for file in self._files.values():
            file.durable = len(file.content)

    def wipe(self) -> None:
        """Lose everything."""
        self._files.clear()
        self._removed.clear()
        self._undos.clear()

    def flip_bit(self) -> dict[str, int | str]:
        """Change one bit of one file. Returns which."""
        files = {name: len(file.content) for name, file in self._files.items()}
        (name,) = self._random.choices(list(files), list(files.values()))
        byte, bit = self._random.randrange(files[name]), self._random.randrange(8)
        self._files[name].content[byte] ^= 1 << bit
        return {"file": name, "byte": byte, "bit": bit}
