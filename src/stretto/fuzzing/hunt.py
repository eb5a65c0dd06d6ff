"""Worker processes that do the runs of a plan, and shrink those that fail."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.synchronize import Event
from threading import Thread
from time import monotonic
from typing import TypeAlias

import msgspec

from stretto.fuzzing.plan import Plan
from stretto.fuzzing.shrinking import shrink
from stretto.simulation.run import FoundViolation, SimulationResult
from stretto.simulation.spec import SimulationSpec

Run: TypeAlias = Callable[[SimulationSpec], SimulationResult]
"""Does one run. It is a function of a module, since worker processes import it by its name."""

_QUEUED_PER_WORKER = 4
_SHRUNK_PER_KIND = 3
"""How many violations of one kind are shrunk; most of them have the same cause."""
_GRACE_SECONDS = 60
"""How long after the deadline for new runs the shrinking of those that failed may continue."""


class Finding(msgspec.Struct):
    """A violation, after shrinking.

    `found_with`: the command of the run that showed it first; `shrinking_runs`: how many runs it took to find the smaller one.
    """

    violation: FoundViolation
    spec: SimulationSpec
    found_with: str
    shrinking_runs: int = 0


# In the worker processes

_interrupted: Event


def _start_worker(interrupted: Event) -> None:
    """Leave Ctrl-C to the parent, which sets the event; and do not outlive the parent."""
    global _interrupted
    _interrupted = interrupted
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """If the parent is killed, nothing else tells its workers: each of them holds both ends of the pipe from which it reads its tasks."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def shrink_spec(run: Run, spec: SimulationSpec, violation: FoundViolation, budget: int, deadline: float) -> Finding:
    """Look for a smaller run with a violation of the same kind, with at most `budget` runs, until `deadline` in monotonic seconds."""
    last: list[tuple[SimulationSpec, FoundViolation]] = [(spec, violation)]

    def fails(candidate: SimulationSpec) -> bool:
        found = None if _interrupted.is_set() or monotonic() > deadline else run(candidate).violation
        if found is None or found.kind != violation.kind:
            return False
        last[0] = (candidate, found)
        return True

    # Faults after the violation cannot have caused it.
    shorter = msgspec.structs.replace(spec, fault_ns=min(spec.fault_ns, violation.time_ns + 1))
    shrunk = shrink(shorter if fails(shorter) else spec, fails, budget)
    return Finding(last[0][1], last[0][0], violation.command, shrunk.runs)


# In the parent


class Hunt:
    """Keeps worker processes busy with the runs of a plan.

    Parameters: `run`, which does one run; `workers`, how many processes; `deadline`, in monotonic seconds, after which no run is started;
    `shrinking`, how many runs the shrinking of one violation may take, 0 for none.
    """

    def __init__(self, plan: Plan, run: Run, workers: int, deadline: float, shrinking: int) -> None:
        self._plan = plan
        self._run = run
        self._deadline = deadline
        self._shrinking = shrinking
        self._queued = workers * _QUEUED_PER_WORKER
        context = get_context("spawn")
        self._interrupted = context.Event()
        self._executor = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(self._interrupted,))
        self._pending: set[Future[SimulationResult | Finding]] = set()
        self._kinds: Counter[str] = Counter()

    def outcomes(self) -> Iterator[SimulationResult | Finding]:
        """The result of each run when it is done; and for each result with a violation a finding, when it has been shrunk."""
        while True:
            while len(self._pending) < self._queued and monotonic() < self._deadline and (spec := self._plan.next()) is not None:
                self._pending.add(self._executor.submit(self._run, spec))
            if not self._pending:
                return
            done, self._pending = wait(self._pending, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                yield outcome
                if isinstance(outcome, SimulationResult) and outcome.violation is not None:
                    yield from self._shrink(outcome.spec, outcome.violation)

    def _shrink(self, spec: SimulationSpec, violation: FoundViolation) -> Iterator[Finding]:
        self._kinds[violation.kind] += 1
        if self._kinds[violation.kind] > _SHRUNK_PER_KIND or not self._shrinking:
            yield Finding(violation, spec, violation.command)
        else:
            deadline = self._deadline + _GRACE_SECONDS
            self._pending.add(self._executor.submit(shrink_spec, self._run, spec, violation, self._shrinking, deadline))

    def end(self) -> None:
        """End the worker processes, each after its current run; or at once, if Ctrl-C comes meanwhile."""
        try:
            self._interrupted.set()
            self._executor.shutdown(wait=True, cancel_futures=True)
        except KeyboardInterrupt:
            for worker in active_children():
                worker.kill()
            raise
