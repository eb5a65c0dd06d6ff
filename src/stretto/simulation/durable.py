"""A machine with a disk: no message leaves it before the records that it depends on are on the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

from stretto.core.node import Address, Message
from stretto.simulation.disk import Disk, DiskTimes
from stretto.simulation.lifecycle import in_service
from stretto.simulation.world import Costs, Machine, World
from stretto.storage.files import Corrupt, StorageFailure
from stretto.storage.store import Compaction, Store

OpenStore: TypeAlias = Callable[[Disk], Store]


class DurableMachine(Machine):
    """A machine with a disk. After a burst that persisted records, it is busy until they are on the disk, and sends only then.

    If it crashes before that, the records may be on the disk or not, and the burst's messages are lost. If its disk fails, it crashes.
    """

    durable = True

    def __init__(self, world: World, address: Address, costs: Costs, random: Random, times: DiskTimes, open_store: OpenStore) -> None:
        super().__init__(world, address, costs, random)
        self.disk = Disk(f"disk-{address}", times, Random(random.random()))
        self._open_store = open_store
        self._compaction_ns = times.compaction.sampler(random)
        self._store = self._open()

    def _open(self) -> Store:
        """Open the store. This takes no virtual time: it counts as a part of the time that the machine was down."""
        store = self._open_store(self.disk)
        self.disk.take_spent_ns()
        self._written = store.found  # a crash may still undo the opening
        return store

    def recall(self) -> Sequence[Message]:
        """The records that earlier incarnations left on the disk. If they are damaged, all of them are discarded. Raises StorageFailure."""
        try:
            self._store = self._open()
        except Corrupt as corrupt:
            self.report("corrupt", reason=corrupt.reason)
            self.forget()
            self._store = self._open()
        records, self._store.records = self._store.records, ()
        return records

    @property
    def found(self) -> int:
        """`written` as it was before the last start."""
        return self._store.found

    @property
    def written(self) -> int:
        """See `stretto.core.node.Port`."""
        return self._written

    def forget(self) -> None:
        """Lose everything on the disk."""
        self.disk.wipe()
        self.served = False

    def crash(self) -> None:
        """See `Machine`."""
        super().crash()
        self.disk.crash()

    def persist(self, record: Message) -> None:
        """See `stretto.core.node.Port`."""
        self._store.append(record)

    def compact(self, records: Sequence[Message]) -> None:
        """See `stretto.core.node.Port`."""
        self._store.compact(records)

    def _finish(self, spent: int) -> None:
        if self.crashed or not self._store.pending:
            self._look()
            super()._finish(spent)
            return
        try:
            compaction = self._store.sync()
        except StorageFailure as failure:
            self._fail(failure)
            return
        self._world.at(self._world.now_ns + spent + self.disk.take_spent_ns(), self._synced, self.hold(), compaction)

    def _synced(self, incarnation: int, compaction: Compaction | None) -> None:
        """The burst's records are on the disk: send its messages."""
        if incarnation != self.incarnation:
            return
        self.disk.settle()
        self._written = self._store.written
        self.served = self.served or in_service(self)
        self._look()
        super()._finish(0)
        if compaction is not None:
            self._world.at(self._world.now_ns + self._compaction_ns(), self._compact, incarnation, compaction)
        self.release(incarnation)

    def _compact(self, incarnation: int, compaction: Compaction) -> None:
        """The checkpoint has been written in the background."""
        if incarnation != self.incarnation:
            return
        try:
            compaction.run()
        except StorageFailure as failure:
            self._fail(failure)
        self.disk.take_spent_ns()

    def _look(self) -> None:
        watch = self._world.watch_disk
        if watch is not None and not self.crashed:
            watch(self)

    def _fail(self, failure: StorageFailure) -> None:
        """The process ends; it does not try again."""
        self.report("disk failed", reason=str(failure))
        self.crash()
