"""The property test of a service: random operations must have the same effect on every replica, and must be undoable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from stretto.core.errors import ApplicationError, OperationFailed
from stretto.core.state_machine import Undo
from stretto.services.service import Service, ServiceCodec, ServiceMachine, newest
from stretto.testing.calls import Call, OtherProcess

if TYPE_CHECKING:
    from stretto.testing.drawing import Arguments

_PART = 8


def check_service(
    service_class: type[Service],
    *,
    arguments: Arguments | None = None,
    max_examples: int = 100,
    max_operations: int = 32,
    seed: int = 0,
) -> None:
    """Run random operations on a service and raise AssertionError, with the shortest sequence found, if it cannot be replicated.

    These properties are checked:

    - every operation returns a value of its annotated type, or raises an ApplicationError and no other exception;
    - undoing gives the state before, at every depth;
    - equal operations give equal results and states: after undo, on an instance that executed and undid other operations before, on an
      instance restored from a snapshot, on a deeper stack, and in a process with another hash seed;
    - queries change nothing.

    Parameters: `arguments["method"]["parameter"]`, a hypothesis strategy to draw an argument from, instead of its annotation;
    `max_examples`, how many sequences; `max_operations`, how many operations in one; `seed`, equal seeds give equal operations.

    The class must be defined at the top level of its module, so that the other process can import it; else TypeError is raised. Raises
    ValueError if `arguments` names no method or parameter of the service, ImportError if hypothesis is not installed.
    """
    try:
        import hypothesis
        from hypothesis import strategies as st
        from hypothesis.errors import Flaky
    except ModuleNotFoundError:
        raise ImportError("check_service needs hypothesis, which is not installed; get it with: pip install 'stretto[testing]'") from None
    from stretto.testing.drawing import calls_of_service

    codec = ServiceCodec(service_class)
    # Several lists, since hypothesis rarely draws a long one.
    parts = st.lists(calls_of_service(codec, arguments or {}), max_size=_PART)
    calls = st.tuples(*[parts] * max(1, max_operations // _PART)).map(lambda drawn: [*chain(*drawn)])
    with OtherProcess(service_class) as other:

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=max_examples,
            deadline=None,
            database=None,
            print_blob=False,
            phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(calls=calls)
        def trial(calls: list[Call]) -> None:
            _Trial(service_class, codec, calls).run(other)

        try:
            trial()
        except Flaky as error:
            raise AssertionError(f"{service_class.__name__}: equal operations do not always have equal effects: {error}") from error
        except AssertionError as error:
            error.add_note(f"seed {seed}: check_service({service_class.__name__}, seed={seed}) finds it again")
            raise


class _Trial:
    """One sequence of operations, and all checks of it."""

    def __init__(self, service_class: type[Service], codec: ServiceCodec, calls: Sequence[Call]) -> None:
        self._class = service_class
        self._codec = codec
        self._calls = calls
        self._operations = [(codec.encode(call.method, call.arguments), call.time_ns, call.entropy) for call in calls]
        self._results: list[bytes] = []
        self._snapshots: list[bytes] = []

    def run(self, other: OtherProcess) -> None:
        machine = newest(self._class)
        undos = self._execute_first(machine)
        self._check_undo(machine, undos)
        self._check_same(machine, 0, "again, after all were undone")
        _call_below(sys.getrecursionlimit() // 2, lambda: self._check_same(newest(self._class), 0, "on a deeper stack"))
        self._check_detours(newest(self._class))
        self._check_restored(newest(self._class))
        results, last = other.execute(self._operations)
        for position, result in enumerate(results):
            self._check_result(position, result, "in a process with another hash seed")
        self._require(last == self._snapshots[-1], len(results), "leaves another state in a process with another hash seed")

    def _execute_first(self, machine: ServiceMachine) -> list[Undo]:
        undos = []
        self._snapshots.append(machine.snapshot())
        for position, (call, operation) in enumerate(zip(self._calls, self._operations, strict=True)):
            result, undo = machine.execute(*operation)
            undos.append(undo)
            self._results.append(result)
            self._snapshots.append(machine.snapshot())
            try:
                self._codec.decode(call.method, result)
            except OperationFailed as error:
                self._require(False, position, f"failed by a mistake in the service, not by an ApplicationError: {error}")
            except ApplicationError:
                pass
            unchanged = undo is None and self._snapshots[-1] == self._snapshots[-2]
            self._require(unchanged or not self._codec.methods[call.method].is_query, position, "is a query and changed the state")
        return undos

    def _check_undo(self, machine: ServiceMachine, undos: list[Undo]) -> None:
        for position in reversed(range(len(undos))):
            machine.undo(undos[position])
            self._require(machine.snapshot() == self._snapshots[position], position, "was undone, and the state is not what it was before")

    def _check_same(self, machine: ServiceMachine, start: int, when: str) -> None:
        for position in range(start, len(self._operations)):
            result, _ = machine.execute(*self._operations[position])
            self._check_result(position, result, when)
            self._check_state(machine, position + 1, when)

    def _check_detours(self, machine: ServiceMachine) -> None:
        """Before each operation, execute the whole sequence in reverse order and undo it."""
        when = "on an instance that had undone other operations"
        for position, operation in enumerate(self._operations):
            undos = [machine.execute(*detour)[1] for detour in reversed(self._operations)]
            for undo in reversed(undos):
                machine.undo(undo)
            self._check_state(machine, position, when)
            result, _ = machine.execute(*operation)
            self._check_result(position, result, when)

    def _check_restored(self, machine: ServiceMachine) -> None:
        when = "on an instance restored from a snapshot"
        for position, operation in enumerate(self._operations):
            machine.restore(self._snapshots[position])
            self._check_state(machine, position, when)
            self._check_result(position, machine.execute(*operation)[0], when)
        middle = len(self._operations) // 2
        machine.restore(self._snapshots[middle])
        self._check_same(machine, middle, when)

    def _check_result(self, position: int, result: bytes, when: str) -> None:
        if result != self._results[position]:
            first, now = self._show(position, self._results[position]), self._show(position, result)
            self._require(False, position, f"gave {first} at first, and {now} {when}")

    def _check_state(self, machine: ServiceMachine, position: int, when: str) -> None:
        self._require(machine.snapshot() == self._snapshots[position], position - 1, f"does not leave the same state {when}")

    def _show(self, position: int, result: bytes) -> str:
        try:
            return repr(self._codec.decode(self._calls[position].method, result))
        except ApplicationError as error:
            return f"{type(error).__name__}: {error}"

    def _require(self, holds: bool, position: int, what: str) -> None:
        if not holds:
            lines = [f"  {place + 1}. {self._signature(call)}" for place, call in enumerate(self._calls)]
            where = f"operation {position + 1}" if position >= 0 else "no operation yet:"
            raise AssertionError("\n".join([f"{self._class.__name__}: {where} {what}", *lines]))

    def _signature(self, call: Call) -> str:
        parameters = self._codec.methods[call.method].parameters
        arguments = ", ".join(f"{name}={value!r}" for name, value in zip(parameters, call.arguments, strict=True))
        return f"{call.method}({arguments})  at {call.time_ns} ns, entropy {call.entropy}"


def _call_below(levels: int, function: Callable[[], None]) -> None:
    """Call a function that many frames deeper than here."""
    if levels:
        _call_below(levels - 1, function)
    else:
        function()
