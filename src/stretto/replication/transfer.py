"""State transfer: a replica fetches committed entries that it lacks, in pieces, from any peer that has them.

    r ---Fetch(first, last)---> peer ---Entries---> r     ... until `last` is there

Where the peer has given up the first of these entries, its answer is a checkpoint, also in pieces, and entries follow behind that. One
piece is asked for at a time, so a slow receiver slows nobody. A piece that does not come is asked of the next peer; checkpoints of the same
position are equal everywhere, so it goes on from where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.replication.log import Log, chain
from stretto.replication.messages import CheckpointPiece, Entries, Fetch, FetchCheckpoint, Request
from stretto.replication.records import Checkpoint
from stretto.replication.state import digest_of

if TYPE_CHECKING:
    from stretto.replication.peer import PeerReplica

_ENTRY_OVERHEAD_BYTES = 48
"""At most what an encoded request has beside its operation."""


class Download:
    """A checkpoint of which the bytes of `state` are here so far. `outline`: a piece of it, for what all its pieces say."""

    def __init__(self, outline: CheckpointPiece) -> None:
        self.outline = outline
        self.state = bytearray()

    def is_of(self, piece: CheckpointPiece) -> bool:
        """Whether a piece belongs to this checkpoint."""
        outline = self.outline
        return (piece.position, piece.digest, piece.size) == (outline.position, outline.digest, outline.size)

    def add(self, piece: CheckpointPiece) -> bool:
        """Take a piece of this checkpoint, if it is the next one."""
        room = self.outline.size - len(self.state)
        if piece.offset != len(self.state) or not 0 < len(piece.data) <= room:
            return False
        self.state += piece.data
        return True

    @property
    def complete(self) -> bool:
        """Whether all bytes are here."""
        return len(self.state) == self.outline.size

    @property
    def verified(self) -> bool:
        """Whether they are the right ones."""
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
        """Whether every entry is here."""
        return self.first + len(self.entries) > self.target

    def add(self, piece: Entries) -> bool:
        """Take entries, if they are the next ones."""
        first, last = self.first + len(self.entries), self.target
        if self.download is not None or piece.first != first or not 0 < len(piece.entries) <= last - first + 1:
            return False
        self.entries += piece.entries
        return True

    def add_checkpoint_piece(self, piece: CheckpointPiece) -> bool:
        """Take bytes of a checkpoint, if they are the next ones of it, or the first of one that leads on."""
        download = self.download
        if download is not None and not download.is_of(piece) and piece.position >= download.outline.position:
            download = self.download = None  # there is a newer one, or the first piece was wrong
        if download is None:
            download = Download(piece)
        if piece.position < self.first + len(self.entries) or not download.add(piece):
            return False
        self.download = download
        return True

    def go_on_after(self, position: int) -> None:
        """What a checkpoint of `position` stands for is here: entries follow."""
        self.first = position + 1
        self.entries = []
        self.download = None

    def verified(self, log: Log) -> bool:
        """Whether the entries continue `log` before `first` to the hash that the target is known to have."""
        running = log.hash_at(self.first - 1)
        for request in self.entries:
            running = chain(running, request)
        return running == self.target_hash


class StateTransfer:
    """The part of a replica that fetches, and gives, committed entries and checkpoints. `current`: what is on its way here, if anything."""

    def __init__(self, replica: PeerReplica, config: ClusterConfig) -> None:
        self.replica = replica
        self.port = replica.port
        self.state = replica.state
        self.current: Transfer | None = None
        self.checkpoints_installed = 0
        self._retransmit_ns = config.timeouts.ns("retransmit")
        self._max_bytes = config.limits.max_transfer_bytes

    def begin(self, target: int, target_hash: bytes, source: Address) -> None:
        """Fetch everything after what is committed here, up to `target`, from `source` first."""
        self.current = Transfer(self.state.committed + 1, target, target_hash, source)
        self._ask(self.current)

    def end(self) -> None:
        """Nothing is lacking any more."""
        self.current = None
        self.port.cancel_timer("fetch")

    # The receiver's part

    def _ask(self, transfer: Transfer) -> None:
        """Ask for the next piece; the timer asks another replica if nothing comes."""
        self.port.send(transfer.source, transfer.question)
        self.port.set_timer("fetch", self._retransmit_ns)

    def on_timer(self) -> None:
        """Nothing came: ask the next replica."""
        assert self.current is not None
        self._ask_another(self.current)

    def _ask_another(self, transfer: Transfer) -> None:
        peers = self.replica.peers
        transfer.source = next((peer for peer in peers if peer > transfer.source), peers[0])
        self._ask(transfer)

    def on_entries(self, source: Address, message: Entries) -> None:
        """Take a piece; with the last one, the log is what it should be."""
        transfer = self.current
        if transfer is None or not transfer.add(message):
            return self.replica.ignore("entries that were not asked for")
        if not transfer.complete:
            return self._ask(transfer)
        assert transfer.verified(self.state.log), "two replicas have committed different entries"
        self.replica.adopt(transfer.first - 1, transfer.entries)
        self.state.commit_up_to(transfer.target)
        return self._complete(source)

    def on_checkpoint_piece(self, source: Address, message: CheckpointPiece) -> None:
        """Take a piece; with the last one, the checkpoint is what our log begins with."""
        transfer = self.current
        if transfer is None or not transfer.add_checkpoint_piece(message):
            return self.replica.ignore("a checkpoint that was not asked for")
        if self.state.log.matches(message.position, message.hash):
            # We have all that it stands for, and perhaps more: to begin with it would be to forget, for a while, what is behind it.
            self.state.commit_up_to(message.position)
            return self._go_on_after(message.position, source, transfer)
        download = transfer.download
        assert download is not None
        if not download.complete:
            return self._ask(transfer)
        if not download.verified:
            transfer.download = None
            self.replica.ignore("a checkpoint that does not have its digest")
            return self._ask_another(transfer)
        return self._install(source, transfer, Checkpoint(message.position, message.hash, bytes(download.state)))

    def _install(self, source: Address, transfer: Transfer, checkpoint: Checkpoint) -> None:
        self.port.report("checkpoint installed", position=checkpoint.position, bytes=len(checkpoint.state))
        self.checkpoints_installed += 1
        self.replica.install(checkpoint)
        self._go_on_after(checkpoint.position, source, transfer)

    def _go_on_after(self, position: int, source: Address, transfer: Transfer) -> None:
        transfer.go_on_after(position)
        if transfer.complete:
            self._complete(source)
        else:
            self._ask(transfer)

    def _complete(self, source: Address) -> None:
        self.end()
        self.replica.on_transferred(source)

    # The giver's part

    def on_fetch(self, source: Address, message: Fetch) -> None:
        """Send committed entries, or the checkpoint that stands for them.

        They are the same in every view, so neither view nor status matters.
        """
        log, committed = self.state.log, self.state.committed
        if not 0 < message.first <= min(committed, message.last):
            self.replica.ignore("asks for entries that are not committed here")
        elif message.first <= log.base:
            self._send_checkpoint(source, 0)
        else:
            entries = log.entries(message.first, min(committed, message.last))
            self.port.send(source, Entries(message.first, piece_of(entries, self._max_bytes)))

    def on_fetch_checkpoint(self, source: Address, message: FetchCheckpoint) -> None:
        """Go on with a checkpoint, or begin with a newer one."""
        checkpoint = self.state.checkpoint
        if checkpoint is None:
            return self.replica.ignore("asks for a checkpoint that is not here")
        same = checkpoint.position == message.position and self.state.checkpoint_digest() == message.digest
        return self._send_checkpoint(source, message.offset if same and message.offset < len(checkpoint.state) else 0)

    def _send_checkpoint(self, destination: Address, offset: int) -> None:
        checkpoint = self.state.checkpoint
        assert checkpoint is not None, "entries have been given up, and no checkpoint stands for them"
        state = checkpoint.state
        piece = state[offset : offset + self._max_bytes]
        message = CheckpointPiece(checkpoint.position, checkpoint.hash, self.state.checkpoint_digest(), len(state), offset, piece)
        self.port.send(destination, message)

    # Watching

    def snapshot(self) -> Any:
        """What is on its way, as canonical plain data."""
        transfer = self.current
        return transfer and [transfer.question, transfer.target, transfer.target_hash, transfer.source]


def piece_of(entries: list[Request], max_bytes: int) -> list[Request]:
    """As many of the entries, from the first on, as fit; at least one."""
    room = max_bytes
    for count, entry in enumerate(entries):
        room -= len(entry.operation) + _ENTRY_OVERHEAD_BYTES
        if count and room < 0:
            return entries[:count]
    return entries
