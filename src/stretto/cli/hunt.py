"""The machinery of `stretto fuzz`: what to run next, processes that run it, and the shrinking of what fails."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from random import Random
from time import monotonic

import msgspec

from stretto import catalog
from stretto.cli.simulate import simulation_of
from stretto.simulation.run import FoundViolation, SimulationResult
from stretto.simulation.shrinking import shrink
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.swarm import Fixed, cross, draw_spec

_QUEUED_PER_WORKER = 4
_SHRUNK_PER_KIND = 3
"""Violations of one kind that are shrunk; most of them are the same."""
_GRACE_SECONDS = 60
"""How much longer than runs are begun, the shrinking of those that failed may take."""


class Finding(msgspec.Struct):
    """A violation, after shrinking. `found_with`: the command of the run that had it first; `shrinking_runs`: what the smaller one cost."""

    violation: FoundViolation
    spec: SimulationSpec
    found_with: str
    shrinking_runs: int = 0


# In the worker processes

_interrupted: Event


def _begin_work(interrupted: Event) -> None:
    """The parent alone answers to Ctrl-C; the event tells that it has."""
    global _interrupted
    _interrupted = interrupted
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_spec(spec: SimulationSpec) -> SimulationResult:
    """Do one run."""
    return simulation_of(spec).run()


def shrink_spec(spec: SimulationSpec, violation: FoundViolation, budget: int, deadline: float) -> Finding:
    """Look for a smaller run with a violation of the same kind, until there were `budget` runs, or that time."""
    last: list[tuple[SimulationSpec, FoundViolation]] = [(spec, violation)]

    def fails(candidate: SimulationSpec) -> bool:
        found = None if _interrupted.is_set() or monotonic() > deadline else run_spec(candidate).violation
        if found is None or found.kind != violation.kind:
            return False
        last[0] = (candidate, found)
        return True

    # What would have come after the violation is no part of it.
    shorter = msgspec.structs.replace(spec, fault_ns=min(spec.fault_ns, violation.time_ns + 1))
    shrunk = shrink(shorter if fails(shorter) else spec, fails, budget)
    return Finding(last[0][1], last[0][0], violation.command, shrunk.runs)


# In the parent


class Plan:
    """What to run next: the corpus once more; then what the next seeds draw and, if there is a corpus, as many neighbours of it.

    `interesting`: the runs whose neighbours are worth a try.
    """

    def __init__(
        self,
        protocols: Sequence[str],
        service: str,
        seed: int,
        runs: int | None,
        corpus: Sequence[SimulationSpec] | None,
        fixed: Fixed,
    ) -> None:
        self._again = list(corpus or ())
        self.interesting = list(corpus or ())
        self._left = runs
        self._crosses = corpus is not None
        self._seeds = count(seed)
        self._random = Random(seed)
        self._protocols = [catalog.protocol(name) for name in protocols]
        self._service = service
        self._fixed = fixed

    def next(self) -> SimulationSpec | None:
        """The next run; None if there have been enough."""
        if self._left is not None:
            if not self._left:
                return None
            self._left -= 1
        if self._again:
            return self._again.pop(0)
        seed = next(self._seeds)
        protocol = self._protocols[seed % len(self._protocols)]
        spec = draw_spec(protocol.name, self._service, seed, protocol.max_replicas, self._fixed, protocol.usual_sequencers)
        if self._crosses and self._random.random() < 0.5:
            near = [other for other in self.interesting if other.protocol == protocol.name]
            return cross(self._random.choice(near), spec, self._random) if near else spec
        return spec


class Hunt:
    """Keeps worker processes busy with a plan, until `deadline` or the plan's end. `shrinking`: how many runs a violation may cost."""

    def __init__(self, plan: Plan, workers: int, deadline: float, shrinking: int) -> None:
        self._plan = plan
        self._deadline = deadline
        self._shrinking = shrinking
        self._queued = workers * _QUEUED_PER_WORKER
        context = get_context("spawn")
        self._interrupted = context.Event()
        self._executor = ProcessPoolExecutor(workers, context, initializer=_begin_work, initargs=(self._interrupted,))
        self._pending: set[Future[SimulationResult | Finding]] = set()
        self._kinds: Counter[str] = Counter()

    def outcomes(self) -> Iterator[SimulationResult | Finding]:
        """Results as they come, each making room for a new run; and the violation of a result, when it has been shrunk."""
        while True:
            while len(self._pending) < self._queued and monotonic() < self._deadline and (spec := self._plan.next()) is not None:
                self._pending.add(self._executor.submit(run_spec, spec))
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
            self._pending.add(self._executor.submit(shrink_spec, spec, violation, self._shrinking, self._deadline + _GRACE_SECONDS))

    def end(self) -> None:
        """Stop the processes, as soon as each has done with its run."""
        self._interrupted.set()
        self._executor.shutdown(wait=True, cancel_futures=True)
