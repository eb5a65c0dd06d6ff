"""Bugs in persistence: what a replica finds on its disk after a restart."""

from __future__ import annotations

from stretto.mutants.hunters import disks
from stretto.mutants.mutant import Mutant

_REPLICA = "stretto.protocols.speculative.replica"
_VIEWS = "stretto.replication.view_change"
_STATE = "stretto.replication.state"
_CONTENTS = "stretto.storage.contents"
_FORMAT = "stretto.storage.format"
_STORE = "stretto.storage.store"

MUTANTS = (
    Mutant(
        "entry-not-persisted",
        "An entry is on disk before it is answered",
        _STATE,
        "            self.persist(request)\n",
        "            pass\n",
        disks(),
    ),
    Mutant(
        "roll-back-not-persisted",
        "A rollback is on disk before other entries take the place of those rolled back",
        _STATE,
        "if removed and self.persist is not None:",
        "if removed and self.persist is None:",
        disks(),
    ),
    Mutant(
        "leaving-a-view-not-persisted",
        "A replica persists that it has left a view before it votes for the next",
        _VIEWS,
        "            self.port.persist(StartViewChange(group.incarnations, view))\n",
        "            pass\n",
        disks(),
    ),
    Mutant(
        "view-not-persisted",
        "A replica persists the view that it enters together with the log that the view starts with",
        _VIEWS,
        "            self.port.persist(start_view)\n",
        "            pass\n",
        disks(),
    ),
    Mutant(
        "restart-commits-its-whole-log",
        "After a restart, the log with which the view started is that of its StartView, not the whole log",
        _VIEWS,
        "self.start_last = max(self.state.committed, start_view.commit_base + len(start_view.entries))",
        "self.start_last = log.last",
        disks(),
    ),
    Mutant(
        "compaction-forgets-what-is-speculative",
        "The records that replace all earlier ones in a compaction include the speculative entries",
        _STATE,
        "return [*checkpoint, *self.log.entries(first + 1), Committed(self.committed, self.committed_in_view)]",
        "return [*checkpoint, *self.log.entries(first + 1, self.committed), Committed(self.committed, self.committed_in_view)]",
        disks(),
    ),
    Mutant(
        "installed-checkpoint-not-persisted",
        "A checkpoint that is installed is on disk before anything that depends on it",
        _STATE,
        "            self.persist(checkpoint)\n",
        "            pass\n",
        disks(),
    ),
    Mutant(
        "sync-skipped",
        "A burst is synced before any message that depends on it is sent",
        _STORE,
        "        files.sync(segment)\n",
        "",
        disks(),
    ),
    Mutant(
        "old-files-removed-first",
        "Files are removed only when the checkpoint that replaces them is durable",
        _STORE,
        """\
        self._files.replace(checkpoint_name(self._generation), self._chunks())
        for name in self._files.names():
            if any((found := generation_of(name, kind)) is not None and found < self._generation for kind in (SEGMENT, CHECKPOINT)):
                self._files.remove(name)
""",
        """\
        for name in self._files.names():
            if any((found := generation_of(name, kind)) is not None and found < self._generation for kind in (SEGMENT, CHECKPOINT)):
                self._files.remove(name)
        self._files.replace(checkpoint_name(self._generation), self._chunks())
""",
        disks("--set", "settle_ns=5000000000"),
    ),
    Mutant(
        "compaction-forgets-the-burst",
        "Records persisted in the same burst as a compaction come after it",
        _STORE,
        "[*records, *self._burst[compacted:]]",
        "[*records]",
        disks(),
    ),
    Mutant(
        "checksum-not-checked",
        "A frame is valid only if its payload has its checksum",
        _FORMAT,
        "if len(payload) == length and crc32(payload) == payload_checksum else None",
        "if len(payload) == length else None",
        disks(),
    ),
    Mutant(
        "torn-end-refused",
        "A torn end is cut off: nothing depends on it",
        _CONTENTS,
        "    if behind is not None:\n",
        "    if behind is not None or file.end < file.size:\n",
        disks("--set", "settle_ns=5000000000"),
    ),
    Mutant(
        "damage-taken-for-a-torn-end",
        "Synced data that is damaged is refused, and not cut off",
        _CONTENTS,
        "    if behind is not None:\n",
        "    if file.end < 0:\n",
        disks(),
    ),
    Mutant(
        "synced-frame-not-marked",
        "Synced frames are distinguished from those that may be torn, up to the last one",
        _STORE,
        "        files.append(segment, closing)\n        self._end = self._synced + len(closing)\n",
        "        self._end = self._synced\n",
        disks(),
    ),
    Mutant(
        "end-of-older-segment-not-checked",
        "A segment must be valid up to the end that the next one states",
        _CONTENTS,
        "    if file.end < end:\n",
        "    if file.end < 0:\n",
        disks(),
    ),
)
