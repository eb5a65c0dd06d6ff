"""State transfer: a replica fetches committed entries that it lacks, in chunks, from any peer that has them.

    r ---Fetch(first, last)---> peer ---Entries---> r     ... until `last` is there

If the peer has compacted the first of these entries, it answers with a checkpoint, also in chunks, and the entries after it follow. The
receiver asks for one chunk at a time, so a slow receiver slows no other replica. If a chunk does not come, the receiver asks the next peer,
each time after twice as long: over a slow link, what was asked for is still on its way, and what is asked for again only delays it. A chunk
that comes shows how long the next one may take. The first chunk of a checkpoint is small and each is at most as large as all before it, so
that a link of any speed is learned from little.
Checkpoints of the same position are equal at all replicas, so the transfer continues from the bytes that have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message
from stretto.replication.forgetting import Forgetting
from stretto.replication.group import Group, Status
from stretto.replication.log import Log, chain
from stretto.replication.messages import CheckpointChunk, Entries, Fetch, FetchCheckpoint, Request
from stretto.replication.part import Part
from stretto.replication.pending import PendingRequests
from stretto.replication.records import Checkpoint, CopiedFrom
from stretto.replication.state import ReplicatedState, digest_of

_ENTRY_OVERHEAD_BYTES = 48
"""The most bytes that an encoded request has besides its operation."""

_FIRST_CHUNK_BYTES = 65_536
"""The most bytes in the first chunk of a checkpoint."""

_PATIENCE = 4
"""How many times as long as the last chunk the next one may take: it may have twice its size."""

_MAX_PATIENCE = 128
"""The longest wait for a chunk, in retransmission intervals."""

_MAX_PATIENCE_UNSEEN = 8
"""The same, as long as no chunk has come that took so long: silence is more often a loss than a slow link."""


class Download:
    """A checkpoint that is being fetched. `state`: its bytes so far; `outline`: one of its chunks, for the fields that all share."""

    def __init__(self, outline: CheckpointChunk) -> None:
        self.outline = outline
        self.state = bytearray()

    def is_of(self, chunk: CheckpointChunk) -> bool:
        """Whether a chunk belongs to this checkpoint."""
        outline = self.outline
        return (chunk.position, chunk.digest, chunk.size) == (outline.position, outline.digest, outline.size)

    def add(self, chunk: CheckpointChunk) -> bool:
        """Take a chunk of this checkpoint, if it is the next one."""
        room = self.outline.size - len(self.state)
        if chunk.offset != len(self.state) or not 0 < len(chunk.data) <= room:
            return False
        self.state += chunk.data
        return True

    @property
    def complete(self) -> bool:
        """Whether all bytes have arrived."""
        return len(self.state) == self.outline.size

    @property
    def verified(self) -> bool:
        """Whether the bytes have the checkpoint's digest."""
        return digest_of(self.state) == self.outline.digest


class Transfer:
    """The entries from `first` to `target`, which are known to be committed with hash `target_hash` at the end. Pure bookkeeping."""

    def __init__(self, first: int, target: int, target_hash: bytes, source: Address) -> None:
        self.first = first
        self.target = target
        self.target_hash = target_hash
        self.source = source
        self.entries: list[Request] = []
        self.download: Download | None = None

    @property
    def question(self) -> Fetch | FetchCheckpoint:
        """What to ask for next."""
        download = self.download
        if download is not None:
            return FetchCheckpoint(download.outline.position, download.outline.digest, len(download.state))
        return Fetch(self.first + len(self.entries), self.target)

    @property
    def complete(self) -> bool:
        """Whether all entries have arrived."""
        return self.first + len(self.entries) > self.target

    def add(self, chunk: Entries) -> bool:
        """Take entries, if they are the next ones."""
        first, last = self.first + len(self.entries), self.target
        if self.download is not None or chunk.first != first or not 0 < len(chunk.entries) <= last - first + 1:
            return False
        self.entries += chunk.entries
        return True

    def add_checkpoint_chunk(self, chunk: CheckpointChunk) -> bool:
        """Take bytes of a checkpoint, if they are the next ones, or the first ones of a checkpoint after the entries that have arrived."""
        download = self.download
        if download is not None and not download.is_of(chunk) and chunk.position >= download.outline.position:
            download = self.download = None  # there is a newer one, or the first chunk was wrong
        if download is None:
            download = Download(chunk)
        if chunk.position < self.first + len(self.entries) or not download.add(chunk):
            return False
        self.download = download
        return True

    def go_on_after(self, position: int) -> None:
        """The entries up to `position` are here as a checkpoint: fetch those after it."""
        self.first = position + 1
        self.entries = []
        self.download = None

    def verified(self, log: Log) -> bool:
        """Whether the entries, appended to `log` up to before `first`, lead to the target's hash."""
        running = log.hash_at(self.first - 1)
        for request in self.entries:
            running = chain(running, request)
        return running == self.target_hash


class StateTransfer(Part):
    """The part of a replica that fetches, and gives, committed entries and checkpoints.

    - `current`: the transfer in progress, if any: for a repair within the view, or before a view can be entered or its logs merged. The
      entries are committed and our log differs from them or is shorter, so no operation that it loses by them can have completed.
    - `copied_from`: the replica whose checkpoint was installed here last; this one, if it has executed the log itself. A copy says no
      more about the state than its source does.
    - `repairs`, `checkpoints_installed`: how often each happened; `asked_again`: how often a chunk was asked for again.

    Parameters: `on_complete(source)` is called when all entries are in the log; `source` sent the last of them.
    """

    def __init__(
        self,
        group: Group,
        state: ReplicatedState,
        pending: PendingRequests,
        forgetting: Forgetting,
        config: ClusterConfig,
        on_complete: Callable[[Address], None],
    ) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.state = state
        self.pending = pending
        self.forgetting = forgetting
        self.current: Transfer | None = None
        self.copied_from = group.index
        self.repairs = 0
        self.checkpoints_installed = 0
        self.asked_again = 0
        self._on_complete = on_complete
        self._retransmit_ns = config.timeouts.ns("retransmit")
        self._patience_ns = self._retransmit_ns  # how long to wait for the next chunk; kept from one transfer to the next
        self._asked_ns = 0  # when the next chunk was asked for first
        self._max_bytes = config.limits.max_transfer_bytes
        self.handlers = {
            Entries: self.on_entries,
            CheckpointChunk: self.on_checkpoint_chunk,
            Fetch: self.on_fetch,
            FetchCheckpoint: self.on_fetch_checkpoint,
        }
        self.timers = {"fetch": self.on_timer}

    # Beginning and end

    def repair(self, position: int, summary: bytes, source: Address) -> None:
        """Our log is not the committed one: fetch that, from `source` first, and append our own entries again after it."""
        self.port.report("repair", view=self.group.view, committed=self.state.committed, position=position)
        self.repairs += 1
        self.group.change_status(Status.REPAIRING)
        self._begin(position, summary, source)

    def fetch(self, position: int, summary: bytes, source: Address) -> None:
        """Fetch the committed entries up to `position`, from `source` first, unless a transfer to a lower position is in progress."""
        if self.current is None or self.current.target > position:  # the only replica that knew of a later target may be gone
            self._begin(position, summary, source)

    def _begin(self, target: int, target_hash: bytes, source: Address) -> None:
        self.current = Transfer(self.state.committed + 1, target, target_hash, source)
        self._asked_ns = self.port.now_ns
        self._ask(self.current)

    def end(self) -> None:
        """End the transfer: no entries are lacking any more."""
        self.current = None
        self.port.cancel_timer("fetch")

    def adopt(self, position: int, entries: Sequence[Request]) -> None:
        """Make the log, which equals the group's up to `position`, continue with exactly `entries`. Our others become pending."""
        self.pending.put_before(self.state.adopt(position, entries), entries)

    # The receiver's part

    def _ask(self, transfer: Transfer) -> None:
        """Ask for the next chunk; the timer asks another replica if nothing comes."""
        self.port.send(transfer.source, transfer.question)
        self.port.set_timer("fetch", self._patience_ns + self.port.random.randrange(self._patience_ns // 4 + 1))

    def _ask_for_next(self, transfer: Transfer) -> None:
        """A chunk came: ask for the next one, with the patience that this one has shown to be needed."""
        now_ns = self.port.now_ns
        self._be_patient(_PATIENCE * (now_ns - self._asked_ns))
        self._asked_ns = now_ns
        self._ask(transfer)

    def _be_patient(self, patience_ns: int) -> None:
        self._patience_ns = max(self._retransmit_ns, min(patience_ns, _MAX_PATIENCE * self._retransmit_ns))

    def on_timer(self) -> None:
        """Nothing came: ask the next replica, and wait longer for it."""
        assert self.current is not None
        self.asked_again += 1
        self._be_patient(max(self._patience_ns, min(2 * self._patience_ns, _MAX_PATIENCE_UNSEEN * self._retransmit_ns)))
        self._ask_another(self.current)

    def _ask_another(self, transfer: Transfer) -> None:
        peers = self.group.peers
        transfer.source = next((peer for peer in peers if peer > transfer.source), peers[0])
        self._ask(transfer)

    def on_entries(self, source: Address, message: Entries) -> None:
        """Take a chunk of entries; with the last one, the log is what it should be."""
        transfer = self.current
        if transfer is None or not transfer.add(message):
            return self.group.ignore("entries that were not asked for")
        if not transfer.complete:
            return self._ask_for_next(transfer)
        if not transfer.verified(self.state.log):
            # A view has begun without what is committed here, and has committed other entries; or the source's data is damaged.
            self.port.report("committed entries differ", after=transfer.first - 1, up_to=transfer.target, source=source)
            transfer.entries = []  # the timer asks another replica
            return self.forgetting.tell()
        self.adopt(transfer.first - 1, transfer.entries)
        self.state.commit_up_to(transfer.target, in_view=False)
        return self._complete(source)

    def on_checkpoint_chunk(self, source: Address, message: CheckpointChunk) -> None:
        """Take a chunk of a checkpoint; with the last one, our log begins with it."""
        transfer = self.current
        if transfer is None or not transfer.add_checkpoint_chunk(message):
            return self.group.ignore("a checkpoint that was not asked for")
        if self.state.log.matches(message.position, message.hash):
            # We have all entries that it stands for. Beginning with it would drop our entries after it for a while.
            self.state.commit_up_to(message.position, in_view=False)
            return self._go_on_after(message.position, source, transfer)
        download = transfer.download
        assert download is not None
        if not download.complete:
            return self._ask_for_next(transfer)
        if not download.verified:
            transfer.download = None
            self.group.ignore("a checkpoint that does not have its digest")
            return self._ask_another(transfer)
        return self._install(source, transfer, Checkpoint(message.position, message.hash, message.outcome, bytes(download.state)))

    def _install(self, source: Address, transfer: Transfer, checkpoint: Checkpoint) -> None:
        """Make the log begin with a checkpoint. Our own requests become pending: the checkpoint may include them or not."""
        try:
            removed = self.state.install(checkpoint)
        except msgspec.DecodeError as error:
            self.port.stop(
                f"the checkpoint of replica {source} is not one of this replica's service ({error}): all replicas must run the same code"
            )
            return
        self.port.report("checkpoint installed", position=checkpoint.position, bytes=len(checkpoint.state))
        self.checkpoints_installed += 1
        self.rest_on(source)
        self.pending.put_before(removed, ())
        self._go_on_after(checkpoint.position, source, transfer)

    def rest_on(self, replica: Address) -> None:
        """Our state rests on this replica's from now on: on another one's whose checkpoint was installed, or on our own execution."""
        if replica != self.copied_from:
            self.copied_from = replica
            if self.port.durable:
                self.port.persist(CopiedFrom(replica))

    # What is persisted

    def replay(self, record: Message) -> None:
        """See `Part`."""
        if isinstance(record, CopiedFrom):
            self.copied_from = record.replica

    def records(self) -> list[Message]:
        """See `Part`."""
        return [CopiedFrom(self.copied_from)] if self.copied_from != self.group.index else []

    def _go_on_after(self, position: int, source: Address, transfer: Transfer) -> None:
        transfer.go_on_after(position)
        if transfer.complete:
            self._complete(source)
        else:
            self._ask_for_next(transfer)

    def _complete(self, source: Address) -> None:
        self.end()
        self._on_complete(source)

    # The giver's part

    def on_fetch(self, source: Address, message: Fetch) -> None:
        """Send committed entries, or the checkpoint that stands for them. They are the same in every view."""
        log, committed = self.state.log, self.state.committed
        if not 0 < message.first <= min(committed, message.last):
            self.group.ignore("asks for entries that are not committed here")
        elif message.first <= log.start:
            self._send_checkpoint(source, 0)
        else:
            entries = log.entries(message.first, min(committed, message.last))
            self.port.send(source, Entries(message.first, chunk_of(entries, self._max_bytes)))

    def on_fetch_checkpoint(self, source: Address, message: FetchCheckpoint) -> None:
        """Go on with a checkpoint, or begin with a newer one."""
        checkpoint = self.state.checkpoint
        if checkpoint is None:
            return self.group.ignore("asks for a checkpoint that is not here")
        same = checkpoint.position == message.position and self.state.checkpoint_digest() == message.digest
        return self._send_checkpoint(source, message.offset if same and message.offset < len(checkpoint.state) else 0)

    def _send_checkpoint(self, destination: Address, offset: int) -> None:
        checkpoint = self.state.checkpoint
        assert checkpoint is not None, "the log has been compacted, and no checkpoint stands for the entries"
        state = checkpoint.state
        data = state[offset : offset + min(self._max_bytes, max(offset, _FIRST_CHUNK_BYTES))]
        message = CheckpointChunk(
            checkpoint.position, checkpoint.hash, checkpoint.outcome, self.state.checkpoint_digest(), len(state), offset, data
        )
        self.port.send(destination, message)

    # Watching

    def metrics(self) -> dict[str, Any]:
        """See `Part`."""
        return {
            "checkpoints_installed": self.checkpoints_installed,
            "repairs": self.repairs,
            "chunks_asked_again": self.asked_again,
        }

    def snapshot(self) -> Any:
        """See `Part`."""
        transfer = self.current
        return [self.copied_from, transfer and [transfer.question, transfer.target, transfer.target_hash, transfer.source]]

    def check_invariants(self) -> None:
        """See `Part`."""
        assert self.group.status is not Status.REPAIRING or self.current is not None
        assert self.group.status is not Status.NORMAL or self.current is None


def chunk_of(entries: list[Request], max_bytes: int) -> list[Request]:
    """The first entries, as many as fit; at least one."""
    room = max_bytes
    for count, entry in enumerate(entries):
        room -= len(entry.operation) + _ENTRY_OVERHEAD_BYTES
        if count and room < 0:
            return entries[:count]
    return entries
