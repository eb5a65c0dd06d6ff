"""The sums over all runs."""

from __future__ import annotations

import msgspec

from stretto.fuzzing.hunt import Finding
from stretto.simulation.run import SimulationResult
from stretto.verify.linearizability import UNDECIDED


class Totals(msgspec.Struct):
    """The report of `stretto fuzz`.

    - `seed`: of the first run; `seconds`: of real time, in all;
    - `faults`: how often each fault struck;
    - `features`: how many different rare things were reached;
    - `undecided`: how many histories exceeded the linearizability checker's budget.
    """

    protocols: list[str]
    service: str
    seed: int
    runs: int = 0
    operations: int = 0
    unanswered: int = 0
    messages: int = 0
    virtual_seconds: float = 0.0
    reconciliations: int = 0
    restarts: int = 0
    recoveries: int = 0
    seconds: float = 0.0
    runs_by_replicas: dict[int, int] = msgspec.field(default_factory=dict)
    runs_by_durability: dict[str, int] = msgspec.field(default_factory=dict)
    faults: dict[str, int] = msgspec.field(default_factory=dict)
    features: int = 0
    undecided: int = 0
    failed: int = 0
    violations: list[Finding] = msgspec.field(default_factory=list)

    def add(self, outcome: SimulationResult | Finding) -> None:
        """Count one outcome of a hunt."""
        if isinstance(outcome, Finding):
            self.violations.append(outcome)
            return
        spec = outcome.spec
        self.runs += 1
        self.operations += outcome.operations
        self.unanswered += sum(outcome.failures.values())
        self.messages += outcome.messages_delivered
        self.virtual_seconds += outcome.virtual_seconds
        self.reconciliations += outcome.reconciliations
        self.restarts += outcome.restarts
        self.recoveries += outcome.recoveries
        self.undecided += outcome.history == UNDECIDED
        self.failed += outcome.violation is not None
        self.runs_by_replicas[spec.replicas] = self.runs_by_replicas.get(spec.replicas, 0) + 1
        self.runs_by_durability[spec.durability] = self.runs_by_durability.get(spec.durability, 0) + 1
        for fault, times in outcome.struck.items():
            self.faults[fault] = self.faults.get(fault, 0) + times

    def in_short(self) -> str:
        """One line, for the progress display."""
        return f"{self.runs:,} runs from seed {self.seed}, {self.operations:,} operations, {self.failed} violations"
