"""Fetching committed entries that a replica lacks, in pieces, from any peer that has them."""

from __future__ import annotations

from stretto.core.node import Address
from stretto.replication.log import Log, chain
from stretto.replication.messages import Entries, Fetch, Request


class Transfer:
    """The entries from `first` to `target`, which are known to be committed with hash `target_hash` at the end.

    Pure bookkeeping: the replica sends `fetch` to `source`, hands over what comes, and turns to `next_source` when nothing does.
    """

    def __init__(self, first: int, target: int, target_hash: bytes, source: Address) -> None:
        self.first = first
        self.target = target
        self.target_hash = target_hash
        self.source = source
        self.entries: list[Request] = []

    @property
    def fetch(self) -> Fetch:
        """What to ask for next."""
        return Fetch(self.first + len(self.entries), self.target)

    @property
    def complete(self) -> bool:
        """Whether every entry is here."""
        return self.first + len(self.entries) > self.target

    def add(self, piece: Entries) -> bool:
        """Take a piece, if it is the next one."""
        wanted = self.fetch
        if piece.first != wanted.first or not piece.entries or len(piece.entries) > wanted.last - wanted.first + 1:
            return False
        self.entries += piece.entries
        return True

    def next_source(self, n: int, myself: Address) -> None:
        """Ask another of the `n` replicas from now on."""
        self.source = next(peer for step in range(1, n + 1) if (peer := (self.source + step) % n) != myself)

    def verified(self, log: Log) -> bool:
        """Whether the entries continue `log` before `first` to the hash that the target is known to have."""
        running = log.hash_at(self.first - 1)
        for request in self.entries:
            running = chain(running, request)
        return running == self.target_hash


def piece_of(log: Log, committed: int, fetch: Fetch, max_bytes: int) -> Entries | None:
    """The answer to a Fetch from a log with that much committed; None if it does not have the first of the entries, committed."""
    if not log.base < fetch.first <= min(committed, fetch.last):
        return None
    entries: list[Request] = []
    room = max_bytes
    for position in range(fetch.first, min(committed, fetch.last) + 1):
        entry = log.entry_at(position)
        room -= len(entry.operation) + _ENTRY_OVERHEAD_BYTES
        if entries and room < 0:
            break
        entries.append(entry)
    return Entries(fetch.first, entries)


_ENTRY_OVERHEAD_BYTES = 48
"""At most what an encoded request has beside its operation."""
