"""Sessions: they make an operation take effect at most once, however often its request arrives.

The session table is part of the replicated state: it changes only by executing the log, and rolls back with it. An entry of the log opens a
session, and the hash at that entry's position gives the session its name, which is final once the position is; a client cannot choose it.
So no other session ever has this name, not even in a cluster that is started anew and whose positions begin at 1 again. If there are more
sessions than configured, opening one drops the least recently used. A request whose session the table does not have, or has for another
client, is refused at its position in the log and opens no session. So a late copy of a dropped session's request cannot run again.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import Any, TypeAlias

import msgspec

from stretto.core.node import Address
from stretto.replication.messages import OPEN_SESSION, Request

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(int).decode


def slot(request: Request) -> tuple[int, int]:
    """The key under which request numbers are compared: the session; for a request that opens one, its nonce."""
    return (OPEN_SESSION, request.number) if request.session == OPEN_SESSION else (request.session, 0)


def identity(request: Request) -> tuple[int, int]:
    """A key that is different for each request."""
    return request.session, request.number


_HASH_BITS = 48
_LIFE_BITS = 14


def session_name(life: bytes, summary: bytes) -> int:
    """The name of the session that is opened at the position with this hash, in this life of the cluster. It has 63 bits."""
    of_life = int.from_bytes(life[:2]) >> 16 - _LIFE_BITS
    of_place = int.from_bytes(summary[: _HASH_BITS // 8])
    return (1 << _LIFE_BITS | of_life) << _HASH_BITS | of_place


def is_of_life(session: int, life: bytes) -> bool:
    """Whether a session, by its name, was opened in this life of the cluster. Names of other lives are mostly recognised, not always."""
    return session >> _HASH_BITS == session_name(life, b"") >> _HASH_BITS


def share_life(session: int, other: int) -> bool:
    """Whether the names of two sessions show the same life of the cluster."""
    return session >> _HASH_BITS == other >> _HASH_BITS


class Opening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who opened a session, with which nonce, and at which position."""

    client: Address
    nonce: int
    position: int


class SessionRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A session's last request: its number, its position in the log, its result; and how the session began."""

    number: int
    position: int
    result: bytes
    opening: Opening


SessionUndo: TypeAlias = "SessionRecord | list[tuple[int, SessionRecord]] | None"
"""What undoes one entry's change: the record that it replaced; for an opening, the sessions that it dropped; None if nothing changed."""


def session_from_result(result: bytes) -> int:
    """The name of the session that a request opened, from the request's result."""
    return _decode(result)


class SessionTable:
    """The sessions after executing the whole log.

    `records` maps a session to its SessionRecord; others read it directly, as it is on the hot path. Invariant: `_by_nonce` maps the nonce
    of each session's opening to the session.
    """

    def __init__(self, max_sessions: int) -> None:
        self.records: dict[int, SessionRecord] = {}
        self._by_nonce: dict[int, int] = {}
        self._max_sessions = max_sessions

    def limit(self, max_sessions: int) -> None:
        """Keep at most so many sessions from now on. If there are more, the least recently used are dropped, which is not undone."""
        self._max_sessions = max_sessions
        for session, record in self._least_recent(len(self.records) - max_sessions):
            self._remove(session, record)

    def _least_recent(self, count: int) -> list[tuple[int, SessionRecord]]:
        return nsmallest(count, self.records.items(), key=lambda item: item[1].position)

    def record_for(self, request: Request) -> SessionRecord | None:
        """The record of the request's session, if the session belongs to its client. For a request that opens one, once it was executed."""
        if request.session == OPEN_SESSION:
            session = self._by_nonce.get(request.number)
            if session is None:
                return None
            opening = self.records[session].opening
            return SessionRecord(request.number, opening.position, _encode(session), opening)
        record = self.records.get(request.session)
        return record if record is not None and record.opening.client == request.client else None

    def has_executed(self, request: Request) -> bool:
        """Whether, by the table, this request or a later one of its session has been executed."""
        if request.session == OPEN_SESSION:
            return request.number in self._by_nonce
        record = self.records.get(request.session)
        return record is not None and record.opening.client == request.client and request.number <= record.number

    def open(self, position: int, name: int, request: Request) -> tuple[bytes | None, SessionUndo]:
        """Execute an opening at `position`, which gives the session this name. Returns its result, and how to undo it.

        In the unlikely case that a session has the name already, the opening is refused, and the client tries another.
        """
        assert request.number not in self._by_nonce, "a request to open a session stands in the log twice"
        if name in self.records:
            return None, None
        dropped: list[tuple[int, SessionRecord]] = []
        if len(self.records) >= self._max_sessions:
            dropped = self._least_recent(max(1, self._max_sessions // 16))
            for session, record in dropped:
                self._remove(session, record)
        result = _encode(name)
        self._insert(name, SessionRecord(0, position, result, Opening(request.client, request.number, position)))
        return result, dropped

    def undo(self, request: Request, undo: SessionUndo) -> None:
        """Undo what the entry `request` changed. The entries after it have been undone already."""
        if isinstance(undo, SessionRecord):
            self.records[request.session] = undo
        elif undo is not None:
            opened = self._by_nonce[request.number]
            self._remove(opened, self.records[opened])
            for session, record in undo:
                self._insert(session, record)

    def _insert(self, session: int, record: SessionRecord) -> None:
        self.records[session] = record
        self._by_nonce[record.opening.nonce] = session

    def _remove(self, session: int, record: SessionRecord) -> None:
        del self.records[session]
        del self._by_nonce[record.opening.nonce]

    def image(self) -> list[tuple[int, SessionRecord]]:
        """All sessions in the order of their names, for a checkpoint."""
        return sorted(self.records.items())

    def restore(self, image: list[tuple[int, SessionRecord]]) -> None:
        """Replace the sessions by those of an `image`."""
        self.records = {}
        self._by_nonce = {}
        for session, record in image:
            self._insert(session, record)

    def snapshot(self) -> Any:
        """The table as canonical plain data."""
        return [[session, msgspec.to_builtins(record)] for session, record in self.image()]

    def check_invariants(self) -> None:
        """Check that the two maps agree, and that the number of sessions is within its limit."""
        assert len(self.records) == len(self._by_nonce) <= self._max_sessions
        for session, record in self.records.items():
            assert self._by_nonce[record.opening.nonce] == session
            assert record.opening.position <= record.position
