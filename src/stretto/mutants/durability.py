"""Bugs in what a replica with a disk finds again."""

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
        "That entries were rolled back is on disk before others take their place",
        _STATE,
        "if removed and self.persist is not None:",
        "if removed and self.persist is None:",
        disks(),
    ),
    Mutant(
        "leaving-a-view-not-persisted",
        "That a replica has left a view is on disk before it votes for the next",
        _VIEWS,
        "            self.port.persist(StartViewChange(group.incarnations, view))\n",
        "            pass\n",
        disks(),
    ),
    Mutant(
        "view-not-persisted",
        "The view entered is on disk with the log it starts with",
        _VIEWS,
        "            self.port.persist(start_view)\n",
        "            pass\n",
        disks(),
    ),
    Mutant(
        "restart-commits-its-whole-log",
        "What a view started with is what its StartView had, not what the log has at a restart",
        _VIEWS,
        "self.start_last = max(self.state.committed, start_view.commit_base + len(start_view.entries))",
        "self.start_last = log.last",
        disks(),
    ),
    Mutant(
        "compaction-forgets-what-is-speculative",
        "What stands for all earlier records has the speculative entries too",
        _STATE,
        "return [*checkpoint, *self.log.entries(first + 1), Committed(self.committed)]",
        "return [*checkpoint, *self.log.entries(first + 1, self.committed), Committed(self.committed)]",
        disks(),
    ),
    Mutant(
        "installed-checkpoint-not-persisted",
        "A checkpoint that is installed is on disk before anything that rests on it",
        _STATE,
        "            self.persist(checkpoint)\n",
        "            pass\n",
        disks(),
    ),
    Mutant(
        "sync-skipped",
        "A burst is synced before anything that rests on it leaves",
        _STORE,
        "        files.sync(segment)\n",
        "",
        disks(),
    ),
    Mutant(
        "old-files-removed-first",
        "Files are removed when the checkpoint that stands for them is durable",
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
        "What is persisted in one burst with a compaction is behind it",
        _STORE,
        "[*records, *self._burst[compacted:]]",
        "[*records]",
        disks(),
    ),
    Mutant(
        "checksum-not-checked",
        "A frame counts if its payload has its checksum",
        _FORMAT,
        "if len(payload) == length and crc32(payload) == payload_checksum else None",
        "if len(payload) == length else None",
        disks(),
    ),
    Mutant(
        "torn-end-refused",
        "A torn end is cut off: nothing rests on it",
        _CONTENTS,
        "    if behind is not None:\n",
        "    if behind is not None or file.end < file.size:\n",
        disks("--set", "settle_ns=5000000000"),
    ),
    Mutant(
        "damage-taken-for-a-torn-end",
        "What has been synced and is not good now is refused, and not cut off",
        _CONTENTS,
        "    if behind is not None:\n",
        "    if file.end < 0:\n",
        disks(),
    ),
    Mutant(
        "synced-frame-not-marked",
        "What has been synced is told from what may be torn, to the last frame",
        _STORE,
        "        files.append(segment, closing)\n        self._end = self._synced + len(closing)\n",
        "        self._end = self._synced\n",
        disks(),
    ),
    Mutant(
        "end-of-older-segment-not-checked",
        "A segment is good up to where the next one says that it ends",
        _CONTENTS,
        "    if file.end < end:\n",
        "    if file.end < 0:\n",
        disks(),
    ),
)
