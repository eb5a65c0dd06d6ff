"""The events of a stage's replicas besides their messages: starts, and what their state machines do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stretto.core.state_machine import StateMachine, Undo
from stretto.core.trace import TraceRecord

_LONGEST_SHOWN = 32


class Started(TraceRecord, frozen=True, tag="start", gc=False):
    """A node was started; `how`: for the first time, with so many records, or without any."""

    how: str


def shown(value: bytes) -> str:
    """An operation or a result for people; only its beginning if it is long."""
    return repr(value) if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]!r} and {len(value) - _LONGEST_SHOWN} bytes more"


class WatchedMachine:
    """A replica's state machine that tells the stage what is executed and undone. Its other attributes are the machine's own."""

    def __init__(self, machine: StateMachine, tell: Callable[[str], None]) -> None:
        self._machine = machine
        self._tell = tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        result, undo = self._machine.execute(operation, time_ns, entropy)
        self._tell(f"executes {shown(operation)} -> {shown(result)}")
        return result, (operation, undo)

    def undo(self, undo: Undo) -> None:
        operation, inner = undo
        if inner is not None:
            self._machine.undo(inner)
        self._tell(f"undoes {shown(operation)}")

    def snapshot(self) -> bytes:
        return self._machine.snapshot()

    def restore(self, snapshot: bytes) -> None:
        self._machine.restore(snapshot)
        self._tell("restores the state of a checkpoint")
