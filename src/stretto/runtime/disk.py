"""The store of a replica process: opening, repair and sync, with compactions in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.errors import ConfigurationError
from stretto.core.node import Message
from stretto.core.protocol import ProtocolDefinition
from stretto.runtime.files import DirectoryFiles
from stretto.storage.files import Corrupt
from stretto.storage.format import Identity
from stretto.storage.store import Store

_MARK = "distrusted"
"""A file of this name in a directory says why its data must not be used again."""


class Disk:
    """The store of replica `index` in the directory `data`.

    Raises Corrupt if the data is damaged, StorageFailure, and ConfigurationError if the directory cannot be used or belongs to another
    replica.
    """

    def __init__(self, data: Path, definition: ProtocolDefinition, config: ClusterConfig, index: int) -> None:
        self.place = str(data)
        self._files = DirectoryFiles(data)
        try:
            if _MARK in self._files.names():
                reason = self._files.read(_MARK).decode("utf-8", "replace")
                raise Corrupt(f"{self.place}/{_MARK}", 0, f"the replica stopped, and its data must not be used again: {reason}")
            self._store = Store(self._files, Identity(config.data_digest(), index, definition.data_name), definition.record_types)
        except BaseException:
            self._files.close()
            raise
        self.persist = self._store.append
        self.compact = self._store.compact

    def take_records(self) -> Sequence[Message]:
        """The records that earlier incarnations persisted, oldest first. The disk keeps no reference to them."""
        records, self._store.records = self._store.records, ()
        return records

    @property
    def found(self) -> int:
        """`written` as it was before this start."""
        return self._store.found

    @property
    def written(self) -> int:
        """How much was ever written into the directory and is durable, as a number that only rises."""
        return self._store.written

    def sync(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make everything that was persisted durable. Raises StorageFailure.

        A compaction continues in a thread of `loop`. If it fails, the exception handler of `loop` is called.
        """
        if self._store.pending:
            compaction = self._store.sync()
            if compaction is not None:
                loop.run_in_executor(None, compaction.run).add_done_callback(_raise_failure)

    def distrust(self, reason: str) -> None:
        """Mark the directory: its data must not be used again, for this reason."""
        self._files.replace(_MARK, [reason.encode()])

    def metrics(self) -> dict[str, Any]:
        """How much was written and synced."""
        return self._files.metrics()

    def close(self) -> None:
        """Release the directory, so that another process can use it."""
        self._files.close()


def _raise_failure(compaction: asyncio.Future[None]) -> None:
    if not compaction.cancelled():
        compaction.result()


def open_disk(data: Path, definition: ProtocolDefinition, config: ClusterConfig, index: int, *, repair: bool) -> tuple[Disk, Path | None]:
    """Open the disk in `data`. With `repair`, data that is damaged or not to be trusted is set aside and the disk begins empty.

    Returns the disk, and the directory to which damaged data was moved, or None. Raises what `Disk` raises.
    """
    try:
        return Disk(data, definition, config, index), None
    except Corrupt:
        if not repair:
            raise
    aside = data.with_name(f"{data.name}.damaged-{datetime.now():%Y%m%d-%H%M%S-%f}")
    try:
        data.rename(aside)
    except OSError as error:
        raise ConfigurationError(f"is damaged, and cannot be set aside as {aside}: {error.strerror}", file=data) from None
    return Disk(data, definition, config, index), aside
