"""The cost of executing operations, in virtual time."""

from __future__ import annotations

from typing import Any

from stretto.core.state_machine import StateMachine, Undo
from stretto.simulation.world import Machine


class MeteredMachine:
    """A replicated state machine that charges each execution to the machine on which it runs. All else is as that of `machine`."""

    def __init__(self, machine: StateMachine, host: Machine) -> None:
        self._machine = machine
        self._execute = machine.execute
        self._host = host
        self.undo = machine.undo
        self.snapshot = machine.snapshot
        self.restore = machine.restore

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        """See `stretto.core.state_machine.StateMachine`."""
        self._host.executes()
        return self._execute(operation, time_ns, entropy)
