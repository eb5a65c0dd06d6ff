"""Callers in virtual time: each makes one call at a time, and the next one when that has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

from stretto.core.errors import StrettoError
from stretto.core.trace import Called, Returned
from stretto.simulation.world import EPOCH_NS, Machine, World
from stretto.verify.calls import CallObserver
from stretto.verify.history import Operation

Workload: TypeAlias = Callable[[Random], bytes]
"""Draws the next operation."""

_LONGEST_CLOCK_ERROR_NS = 50_000_000


def short_bytes(random: Random) -> bytes:
    """A workload for services that take any bytes."""
    return random.randbytes(8)


class ClosedLoop:
    """`sessions` callers, spread evenly over the client nodes.

    Parameters: `think_ns`, the mean pause between a return and the caller's next call; `observer`, which sees every call and return, or
    None. Each client's clock is wrong by a constant of up to 50 ms. No two calls have the same time.
    """

    def __init__(
        self,
        world: World,
        clients: Sequence[Machine],
        sessions: int,
        workload: Workload,
        think_ns: int,
        random: Random,
        observer: CallObserver | None,
    ) -> None:
        self.outstanding = 0
        self.completed = 0
        self.failures: dict[str, int] = {}
        self.latencies_ns: list[int] = []
        self._world = world
        self._callers = [(process, clients[process % len(clients)]) for process in range(sessions)]
        self._workload = workload
        self._think_ns = think_ns
        self._random = random
        self._observer = observer
        self._last_stamp_ns = 0
        self._clock_errors = {machine.address: self._random.randint(0, _LONGEST_CLOCK_ERROR_NS) for machine in clients}
        self._left = 0
        self._persistent = False

    def begin(self, operations: int) -> None:
        """Let all callers make calls until that many were made. The world stops when the last call has ended."""
        self._left = operations
        for process, machine in self._callers:
            self._call_soon(process, machine)

    def begin_afresh(self) -> None:
        """Let each caller make calls until one gets a result. The world stops when all callers have one."""
        self._persistent = True
        self.begin(len(self._callers))

    def end(self) -> None:
        """Begin no further calls. The world stops when the last outstanding one has ended, or after this event if there is none."""
        self._left = 0
        if not self.outstanding:
            self._world.stop()

    def _call_soon(self, process: int, machine: Machine) -> None:
        machine.submit(self._call, process, machine)

    def _call(self, process: int, machine: Machine) -> None:
        if not self._left:
            return
        self._left -= 1
        self.outstanding += 1
        world = self._world
        content = self._workload(self._random)
        called_ns = world.now_ns
        self._last_stamp_ns = stamp_ns = max(self._last_stamp_ns + 1, EPOCH_NS + called_ns + self._clock_errors[machine.address])
        operation = Operation(process, content, called_ns)
        if world.tracer is not None:
            world.tracer(Called(called_ns, machine.address, process, content))
        if self._observer is not None:
            self._observer.called(stamp_ns, operation)
        machine.node.call(content, stamp_ns, lambda outcome: self._returned(operation, stamp_ns, machine, outcome))

    def _returned(self, operation: Operation, stamp_ns: int, machine: Machine, outcome: bytes | StrettoError) -> None:
        world = self._world
        now_ns = world.now_ns
        self.outstanding -= 1
        if isinstance(outcome, bytes):
            operation.returned_ns = now_ns
            operation.result = outcome
            self.completed += 1
            self.latencies_ns.append(now_ns - operation.called_ns)
        else:
            operation.error = error = type(outcome).__name__
            self.failures[error] = self.failures.get(error, 0) + 1
            if self._persistent:
                self._left += 1
        if world.tracer is not None:
            world.tracer(Returned(now_ns, machine.address, operation.process, operation.result, operation.error))
        if self._observer is not None:
            self._observer.returned(stamp_ns, operation)
        self._go_on(operation, machine)

    def _go_on(self, operation: Operation, machine: Machine) -> None:
        if not self._left:
            if not self.outstanding:
                self._world.stop()
        elif self._persistent and operation.error is None:
            return
        elif self._think_ns:
            pause_ns = int(self._think_ns * self._random.expovariate(1.0))
            self._world.at(self._world.now_ns + pause_ns, self._call_soon, operation.process, machine)
        else:
            self._call(operation.process, machine)
