"""The log: a chain of requests in which every position has a hash of all entries up to it.

Two logs with the same hash at a position are equal up to that position, so two replicas compare whole histories by sixteen bytes
(Ports et al., NSDI 2015, section 4; our hash includes the operation).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from stretto.replication.messages import HASH_BYTES, Request

EMPTY_HASH = bytes(HASH_BYTES)
"""The hash at position 0 as long as the life of the cluster is not known; then it is the name of that life (`Group.life`)."""

_encode = msgspec.msgpack.Encoder().encode
_new_hash = blake2b(digest_size=HASH_BYTES).copy
"""A copy of a fresh hash object costs a third of building one."""


def chain(previous: bytes, request: Request) -> bytes:
    """The hash at the position of `request`; `previous` is the hash before it. A request has one encoding, so the hash is canonical."""
    summary = _new_hash()
    summary.update(previous + _encode(request))
    return summary.digest()


class Log:
    """Entries at positions `start` + 1 to `last`; positions count from 1.

    Invariant: `hash_at(p)` chains `hash_at(p - 1)` with the entry at p.
    The log has two parallel lists rather than an object per entry, because objects that the garbage collector tracks cost time.
    """

    def __init__(self, start: int = 0, start_hash: bytes = EMPTY_HASH) -> None:
        self.start = start
        self.last = start
        self.last_hash = start_hash
        self._entries: list[Request] = []
        self._hashes: list[bytes] = [start_hash]

    def append(self, request: Request) -> bytes:
        """Append one entry and return its hash."""
        summary = _new_hash()  # as `chain` does; written out, since a call for each request costs noticeable time
        summary.update(self.last_hash + _encode(request))
        self.last_hash = last_hash = summary.digest()
        self._entries.append(request)
        self._hashes.append(last_hash)
        self.last += 1
        return last_hash

    def hash_at(self, position: int) -> bytes:
        """The hash at a position from `start` to `last`."""
        assert self.start <= position <= self.last, f"position {position} is not in {self.start}..{self.last}"
        return self._hashes[position - self.start]

    def entry_at(self, position: int) -> Request:
        """The entry at a position after `start` and up to `last`."""
        assert self.start < position <= self.last, f"position {position} is not in {self.start + 1}..{self.last}"
        return self._entries[position - self.start - 1]

    def matches(self, position: int, expected_hash: bytes) -> bool:
        """Whether this log reaches `position` and has that hash there."""
        return self.start <= position <= self.last and self._hashes[position - self.start] == expected_hash

    def entries(self, first: int, last: int | None = None) -> list[Request]:
        """The entries from position `first` to `last`, or to the end."""
        assert first > self.start
        return self._entries[first - self.start - 1 : None if last is None else last - self.start]

    def matching_prefix(self, position: int, entries: Iterable[Request]) -> int:
        """The last position up to which this log has `entries` after `position`. The logs are equal up to `position`."""
        for request in entries:
            if position == self.last or self.entry_at(position + 1) != request:
                break
            position += 1
        return position

    def truncate(self, position: int) -> None:
        """Drop the entries after `position`."""
        assert self.start <= position <= self.last
        del self._entries[position - self.start :]
        del self._hashes[position - self.start + 1 :]
        self.last = position
        self.last_hash = self._hashes[-1]

    def compact_to(self, position: int) -> None:
        """Drop the entries up to `position`, which becomes the start."""
        assert self.start <= position <= self.last
        del self._entries[: position - self.start]
        del self._hashes[: position - self.start]
        self.start = position

    def check_invariants(self) -> None:
        """Check that the lists agree. (`ReplicatedState.replayed_on`, which executes the log again, checks the hash chain.)"""
        assert self.last == self.start + len(self._entries) == self.start + len(self._hashes) - 1
        assert self.last_hash == self._hashes[-1]
