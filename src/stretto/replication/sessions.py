"""Sessions: what makes an operation take effect at most once, however often its request arrives.

The table is part of the replicated state: it changes only by executing the log, and rolls back with it. A session is opened by an entry of
the log and named by that entry's position, so its name is as final as the position; a client cannot choose one. Beyond a configured number,
opening one drops the least recently used. A request of a session that the table does not have, or has for another client, is refused at
its place in the log and opens none, so a late copy of a dropped session's request cannot run again.
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
    """What at-most-once is counted by: the session; for a request that opens one, its nonce."""
    return (OPEN_SESSION, request.number) if request.session == OPEN_SESSION else (request.session, 0)


def identity(request: Request) -> tuple[int, int]:
    """What tells one request from all others."""
    return request.session, request.number


class Opening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who opened a session, and with which nonce."""

    client: Address
    nonce: int


class SessionRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A session's last request: its number, its position in the log, its result; and how the session began."""

    number: int
    position: int
    result: bytes
    opening: Opening


SessionUndo: TypeAlias = "SessionRecord | list[tuple[int, SessionRecord]] | None"
"""What takes one entry's change back: the record that it replaced; or, for an opening, the sessions that it dropped; None: no change."""


def session_from_result(result: bytes) -> int:
    """The name of the session that a request to open one resulted in."""
    return _decode(result)


class SessionTable:
    """The sessions as the log up to its last position left them.

    `records` maps a session to its SessionRecord; read it freely, it is on the hot path. Invariant: `_by_nonce` is its inverse by nonce.
    """

    def __init__(self, max_sessions: int) -> None:
        self.records: dict[int, SessionRecord] = {}
        self._by_nonce: dict[int, int] = {}
        self._max_sessions = max_sessions

    def record_for(self, request: Request) -> SessionRecord | None:
        """The record of the request's session, if that is its client's; of a request that opens one, that of the opening, once executed."""
        if request.session == OPEN_SESSION:
            session = self._by_nonce.get(request.number)
            if session is None:
                return None
            return SessionRecord(request.number, session, _encode(session), self.records[session].opening)
        record = self.records.get(request.session)
        return record if record is not None and record.opening.client == request.client else None

    def has_executed(self, request: Request) -> bool:
        """Whether the table knows this request, or a later one of its session, to have been executed."""
        if request.session == OPEN_SESSION:
            return request.number in self._by_nonce
        record = self.records.get(request.session)
        return record is not None and record.opening.client == request.client and request.number <= record.number

    def open(self, position: int, request: Request) -> tuple[bytes, SessionUndo]:
        """Execute an opening at `position`: its result, and how to take it back."""
        assert request.number not in self._by_nonce, "a request to open a session stands in the log twice"
        dropped: list[tuple[int, SessionRecord]] = []
        if len(self.records) >= self._max_sessions:
            dropped = nsmallest(max(1, self._max_sessions // 16), self.records.items(), key=lambda item: item[1].position)
            for session, record in dropped:
                self._remove(session, record)
        result = _encode(position)
        self._insert(position, SessionRecord(0, position, result, Opening(request.client, request.number)))
        return result, dropped

    def undo(self, request: Request, position: int, undo: SessionUndo) -> None:
        """Take back what the entry `request` at `position` changed, entries after it being undone already."""
        if isinstance(undo, SessionRecord):
            self.records[request.session] = undo
        elif undo is not None:
            self._remove(position, self.records[position])
            for session, record in undo:
                self._insert(session, record)

    def _insert(self, session: int, record: SessionRecord) -> None:
        self.records[session] = record
        self._by_nonce[record.opening.nonce] = session

    def _remove(self, session: int, record: SessionRecord) -> None:
        del self.records[session]
        del self._by_nonce[record.opening.nonce]

    def image(self) -> list[tuple[int, SessionRecord]]:
        """All sessions in the order of their names: what a checkpoint keeps."""
        return sorted(self.records.items())

    def restore(self, image: list[tuple[int, SessionRecord]]) -> None:
        """Hold what `image` gave, and nothing else."""
        self.records = {}
        self._by_nonce = {}
        for session, record in image:
            self._insert(session, record)

    def snapshot(self) -> Any:
        """The table as canonical plain data."""
        return [[session, msgspec.to_builtins(record)] for session, record in self.image()]

    def check_invariants(self) -> None:
        """The two maps agree, and the number of sessions is bounded."""
        assert len(self.records) == len(self._by_nonce) <= self._max_sessions
        for session, record in self.records.items():
            assert self._by_nonce[record.opening.nonce] == session <= record.position
