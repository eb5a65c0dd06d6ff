"""The replicated state: log, sessions and state machine, which move together, forward by executing and back by undoing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stretto.core.state_machine import StateMachine, Undo
from stretto.replication.log import Log
from stretto.replication.messages import OPEN_SESSION, Request
from stretto.replication.sessions import SessionRecord, SessionTable, SessionUndo, slot


class ReplicatedState:
    """What executing the log left. Every entry of the log is executed; those after `committed` can be undone.

    Invariants: sessions and machine are what executing the entries 1 to `log.tip` in order gives;
    `results` has one item for each entry of the log, the undo lists one for each entry after `committed`.
    """

    def __init__(self, machine: StateMachine, max_sessions: int) -> None:
        self.log = Log()
        self.sessions = SessionTable(max_sessions)
        self.machine = machine
        self.committed = 0
        self.rolled_back_operations = 0
        self._max_sessions = max_sessions
        self._results: list[bytes | None] = []
        self._session_undos: list[SessionUndo] = []
        self._machine_undos: list[Undo] = []

    def append(self, request: Request) -> bytes | None:
        """Append and execute a request that the log has not seen. The result; None if its client does not have this session."""
        log = self.log
        log.append(request)
        session = request.session
        record = self.sessions.records.get(session)
        undo: Undo = None
        session_undo: SessionUndo = None
        result: bytes | None = None
        if record is not None and record.opening.client == request.client:
            assert request.number > record.number, "an operation stands in the log twice, or after a later one of its session"
            result, undo = self.machine.execute(request.operation, request.time_ns, request.entropy)
            self.sessions.records[session] = SessionRecord(request.number, log.tip, result, record.opening)
            session_undo = record
        elif session == OPEN_SESSION:
            result, session_undo = self.sessions.open(log.tip, request)
        self._results.append(result)
        self._machine_undos.append(undo)
        self._session_undos.append(session_undo)
        return result

    def result_at(self, position: int) -> bytes | None:
        """What the entry after the log's base and up to its tip resulted in; None where its session was not in the table."""
        return self._results[position - self.log.base - 1]

    def roll_back_to(self, position: int) -> list[Request]:
        """Undo every operation after `position`, the last first, and return their requests, the first first."""
        assert self.committed <= position <= self.log.tip, f"cannot roll back to {position}: {self.committed} is committed"
        removed = self.log.entries(position + 1)
        for place in range(self.log.tip, position, -1):
            undo = self._machine_undos.pop()
            if undo is not None:
                self.machine.undo(undo)
            self.sessions.undo(self.log.entry_at(place), place, self._session_undos.pop())
        self.log.truncate(position)
        del self._results[position - self.log.base :]
        self.rolled_back_operations += len(removed)
        return removed

    def adopt(self, position: int, entries: Sequence[Request]) -> list[Request]:
        """Make the log, equal to the group's up to `position`, continue with exactly `entries`.

        What matches already stays as it is. Returns the requests that were rolled back.
        """
        kept = self.log.matching_prefix(position, entries)
        removed = self.roll_back_to(kept)
        for request in entries[kept - position :]:
            self.append(request)
        return removed

    def commit_up_to(self, position: int) -> None:
        """The entries up to `position` stay for ever: give up what could undo them."""
        assert self.committed <= position <= self.log.tip
        done = position - self.committed
        del self._session_undos[:done]
        del self._machine_undos[:done]
        self.committed = position

    def numbers_at(self, position: int, requests: Sequence[Request], since: int) -> dict[tuple[int, int], int]:
        """The last request number of each slot that `requests` use, as the session table stood at `position` (committed or later).

        Of sessions that the table does not have, the last number that the log has after position `since`: a request that was refused
        there, or a session that was opened and dropped again, is not to be appended once more either.
        """
        numbers = {}
        for request in requests:
            record = self.sessions.record_for(request)
            if record is not None:
                numbers[slot(request)] = record.number
        for place in range(self.log.tip, position, -1):
            undo = self._session_undos[place - self.committed - 1]
            if isinstance(undo, SessionRecord):
                numbers[slot(self.log.entry_at(place))] = undo.number
            elif undo is not None:
                numbers.pop((place, 0), None)
                numbers.pop(slot(self.log.entry_at(place)), None)
                for session, dropped in undo:
                    numbers[session, 0] = dropped.number
                    numbers[OPEN_SESSION, dropped.opening.nonce] = dropped.opening.nonce
        unknown = {slot(request) for request in requests} - numbers.keys()
        for request in self.log.entries(since + 1, position) if unknown else ():
            if slot(request) in unknown:
                numbers[slot(request)] = max(request.number, numbers.get(slot(request), 0))
        return numbers

    def snapshot(self) -> Any:
        """Sessions and machine as canonical plain data."""
        return {"sessions": self.sessions.snapshot(), "machine": self.machine.snapshot()}

    def replayed_on(self, machine: StateMachine) -> Any:
        """What `snapshot` gives when this log is executed from its start on a fresh `machine`."""
        other = ReplicatedState(machine, self._max_sessions)
        for request in self.log.entries(self.log.base + 1):
            other.append(request)
        return other.snapshot()

    def check_invariants(self) -> None:
        """The parts agree with each other."""
        self.log.check_invariants()
        self.sessions.check_invariants()
        assert self.log.base <= self.committed <= self.log.tip
        assert len(self._results) == self.log.tip - self.log.base
        assert len(self._machine_undos) == len(self._session_undos) == self.log.tip - self.committed
