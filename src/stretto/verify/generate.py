"""Generates histories that are linearizable by construction, or contain one planted error, to test the checker and measure its speed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from stretto.core.state_machine import StateMachine, Undo
from stretto.verify.history import Operation

_MEAN_LATENCY_NS = 500_000
_LONGEST_DELAY = 100
_LOST_CHANGES = 20


def concurrent_history(
    machine: StateMachine,
    workload: Callable[[Random], bytes],
    random: Random,
    operations: int,
    clients: int,
    unanswered: float = 0.0,
    lose_at: int | None = None,
) -> list[Operation]:
    """The history of `clients` callers that each make one call after the other. One `machine` executes each call at one instant.

    Parameters: `workload` draws one operation; `operations` is their total number; `unanswered` is the share of calls without an answer;
    half of these take effect, some of them long after their callers have made further calls; `lose_at` plants an error: after this many
    operations the machine loses its latest 20 changes.
    """
    history: list[Operation] = []
    events: list[tuple[int, int, Callable[[int], None]]] = []
    executed = 0
    changes: deque[Undo] = deque(maxlen=_LOST_CHANGES)

    def at(time_ns: int, event: Callable[[int], None]) -> None:
        heappush(events, (time_ns, random.getrandbits(30), event))

    def latency() -> int:
        return 1 + int(random.expovariate(1 / _MEAN_LATENCY_NS))

    def call(process: int, now_ns: int) -> None:
        if len(history) == operations:
            return
        operation = Operation(process, workload(random), now_ns)
        history.append(operation)
        if random.random() >= unanswered:
            at(now_ns + latency(), lambda then_ns: take_effect(operation, then_ns))
            return
        operation.error = "RequestTimeout"
        if random.random() < 0.5:
            at(now_ns + latency() * random.randint(1, _LONGEST_DELAY), lambda then_ns: take_effect(operation, then_ns))
        at(now_ns + 2 * latency(), lambda then_ns: call(process, then_ns))

    def take_effect(operation: Operation, now_ns: int) -> None:
        nonlocal executed
        executed += 1
        result, undo = machine.execute(operation.operation, now_ns, 0)
        if undo is not None:
            changes.append(undo)
        while executed == lose_at and changes:
            machine.undo(changes.pop())
        if operation.error is not None:
            return
        at(now_ns + latency(), lambda then_ns: answer(operation, result, then_ns))

    def answer(operation: Operation, result: bytes, now_ns: int) -> None:
        operation.returned_ns, operation.result = now_ns, result
        call(operation.process, now_ns)

    for process in range(clients):
        at(random.randrange(_MEAN_LATENCY_NS), lambda then_ns, process=process: call(process, then_ns))  # type: ignore[misc]
    while events:
        now_ns, _, event = heappop(events)
        event(now_ns)
    return history
