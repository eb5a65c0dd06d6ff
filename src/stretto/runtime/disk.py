"""What a replica's process does with its store: it opens or repairs it, syncs it, and lets compactions run in a thread."""

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


class Disk:
    """The store of replica `index` in the directory `data`.

    Raises Corrupt if what is there is damaged, StorageFailure, and ConfigurationError if the directory cannot be used, or is another's.
    """

    def __init__(self, data: Path, definition: ProtocolDefinition, config: ClusterConfig, index: int) -> None:
        self.place = str(data)
        self._files = DirectoryFiles(data)
        try:
            self._store = Store(self._files, Identity(config.data_digest(), index, definition.data_name), definition.record_types)
        except BaseException:
            self._files.close()
            raise
        self.persist = self._store.append
        self.compact = self._store.compact

    def take_records(self) -> Sequence[Message]:
        """What earlier lives persisted, the oldest first. It is kept no longer."""
        records, self._store.records = self._store.records, ()
        return records

    def sync(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return when all that was persisted is durable. Raises StorageFailure.

        A compaction goes on in a thread of `loop`; if it fails, the exception handler of `loop` is told.
        """
        if self._store.pending:
            compaction = self._store.sync()
            if compaction is not None:
                loop.run_in_executor(None, compaction.run).add_done_callback(_raise_failure)

    def metrics(self) -> dict[str, Any]:
        """What was written and synced."""
        return self._files.metrics()

    def close(self) -> None:
        """Let another process have the directory."""
        self._files.close()


def _raise_failure(compaction: asyncio.Future[None]) -> None:
    if not compaction.cancelled():
        compaction.result()


def open_disk(data: Path, definition: ProtocolDefinition, config: ClusterConfig, index: int, *, repair: bool) -> tuple[Disk, Path | None]:
    """The disk in `data`. `repair`: if that is damaged, it is set aside, and the disk is empty; where it is then comes with the disk.

    Raises as `Disk` does.
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
