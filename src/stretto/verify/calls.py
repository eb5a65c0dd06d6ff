"""Compares the calls of all clients with the committed log: no accepted result is lost or wrong, no operation is executed twice, and the
log respects real time.

A timestamp identifies a call: every call has a different time of its caller's clock, which is part of the log entry. (The simulator ensures
that; real clients' clocks would not.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from stretto.core.state_machine import StateMachine, VersionedMachine
from stretto.verify.history import Operation
from stretto.verify.logs import CONFIGURATION, OPENING
from stretto.verify.violation import Violation, shortened


class CallObserver:
    """Checks calls, returns and commits as they happen. Its methods raise Violation.

    It executes the committed log on its own state machine. Every result, in a log or at a client, must equal the result of that execution.
    Real-time order takes two comparisons per commit. The committed operation must not have returned before the latest call among the
    entries before it. And no operation that is still uncommitted may have returned before the call of the committed operation, because
    it can no longer be placed before that operation in the log.
    """

    def __init__(self, machine: Callable[[], StateMachine]) -> None:
        self.history: list[Operation] = []
        self._reference = machine()
        self._calls: dict[int, Operation] = {}
        self._places: dict[int, tuple[int, bytes]] = {}
        self._accepted: OrderedDict[int, Operation] = OrderedDict()  # not committed yet, in the order of return
        self._latest_call_ns = -1

    @property
    def uncommitted(self) -> int:
        """How many accepted results are not in the committed log yet."""
        return len(self._accepted)

    def called(self, stamp_ns: int, operation: Operation) -> None:
        """Record that a call began, with this time of its caller's clock."""
        assert stamp_ns not in self._calls, "two calls with one time"
        self._calls[stamp_ns] = operation
        self.history.append(operation)

    def returned(self, stamp_ns: int, operation: Operation) -> None:
        """Record that the call ended, with the result or error that `operation` now has."""
        if operation.result is None:
            return
        place = self._places.get(stamp_ns)
        if place is None:
            self._accepted[stamp_ns] = operation
        elif place[1] != operation.result:
            raise Violation("wrong result", f"{_text_of(operation)}; the committed log gives {shortened(place[1])} at position {place[0]}")

    def committed(self, position: int, entry: Any, result: bytes | None) -> None:
        """Check a position that was committed. Every position before it has been committed already."""
        if result is None or entry.session == OPENING:
            return None
        if entry.session == CONFIGURATION:
            return self._configured(position, entry, result)
        expected, _ = self._reference.execute(entry.operation, entry.time_ns, entry.entropy)
        if result != expected:
            reason = f"the log has {shortened(result)} at position {position}; executing it gives {shortened(expected)}"
            raise Violation("wrong result", reason)
        operation = self._calls.get(entry.time_ns)
        if operation is None or operation.operation != entry.operation:
            raise Violation("invented operation", f"position {position} has {shortened(entry.operation)}, which no client called")
        earlier = self._places.setdefault(entry.time_ns, (position, result))
        if earlier[0] != position:
            raise Violation("executed twice", f"{_text_of(operation)} took effect at position {earlier[0]} and at {position}")
        self._check_real_time(position, operation)
        accepted = self._accepted.pop(entry.time_ns, None)
        if accepted is not None and accepted.result != result:
            raise Violation("accepted result lost", f"{_text_of(accepted)}; position {position} commits it with {shortened(result)}")
        return None

    def _configured(self, position: int, entry: Any, result: bytes) -> None:
        machine = self._reference
        if isinstance(machine, VersionedMachine):
            version, *_ = msgspec.msgpack.decode(entry.operation)
            expected = machine.change_version(max(version, machine.version), entry.time_ns, entry.entropy)
            if result != expected:
                reason = f"the log has {shortened(result)} for version {version} at position {position}, not {shortened(expected)}"
                raise Violation("wrong result", reason)

    def _check_real_time(self, position: int, operation: Operation) -> None:
        returned_ns = operation.returned_ns
        if returned_ns is not None and returned_ns < self._latest_call_ns:
            reason = f"{_text_of(operation)} stands at position {position}, after an operation called at {self._latest_call_ns} ns"
            raise Violation("real-time order broken", reason)
        self._latest_call_ns = max(self._latest_call_ns, operation.called_ns)
        first = next(iter(self._accepted.values()), None)
        if first is not None and first.returned_ns is not None and first.returned_ns < operation.called_ns:
            reason = f"{_text_of(first)} is not in the log before position {position}, which was called at {operation.called_ns} ns"
            raise Violation("accepted result lost", reason)

    def finish(self) -> None:
        """Check at the end of a run, after everything has been committed, that no accepted result is missing."""
        for operation in self._accepted.values():
            raise Violation("accepted result lost", f"{_text_of(operation)} is in no committed log")


def _text_of(operation: Operation) -> str:
    text = f"the call of process {operation.process} at {operation.called_ns} ns, {shortened(operation.operation)}"
    if operation.returned_ns is None:
        return text
    return f"{text}, answered at {operation.returned_ns} ns with {shortened(operation.result)},"
