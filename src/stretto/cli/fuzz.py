"""`stretto fuzz`: many simulated runs, each drawn from a seed of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from multiprocessing import get_context
from random import SystemRandom
from time import monotonic

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from stretto import catalog
from stretto.cli.options import json_option, print_json
from stretto.cli.simulate import print_violation, simulation_of
from stretto.simulation.run import FoundViolation
from stretto.simulation.spec import draw_spec

_SERVICE = "stretto.apps.kv:KeyValueStore"
"""One whose results tell where in the log an operation ran, so that a wrong place shows."""
_QUEUED_PER_WORKER = 4
_MOST_VIOLATIONS = 20
_SEEDS = 1 << 32


class Outcome(msgspec.Struct):
    """What the caller needs to know of one run."""

    seed: int
    replicas: int
    faults: tuple[str, ...]
    operations: int
    failures: int
    messages: int
    virtual_seconds: float
    reconciliations: int
    violation: FoundViolation | None


class Totals(msgspec.Struct):
    """The sums over all runs."""

    protocol: str
    service: str
    seed: int
    runs: int = 0
    operations: int = 0
    unanswered: int = 0
    messages: int = 0
    virtual_seconds: float = 0.0
    reconciliations: int = 0
    seconds: float = 0.0
    runs_by_replicas: dict[int, int] = msgspec.field(default_factory=dict)
    runs_by_fault: dict[str, int] = msgspec.field(default_factory=dict)
    violations: list[FoundViolation] = msgspec.field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        self.runs += 1
        self.operations += outcome.operations
        self.unanswered += outcome.failures
        self.messages += outcome.messages
        self.virtual_seconds += outcome.virtual_seconds
        self.reconciliations += outcome.reconciliations
        self.runs_by_replicas[outcome.replicas] = self.runs_by_replicas.get(outcome.replicas, 0) + 1
        for fault in outcome.faults:
            self.runs_by_fault[fault] = self.runs_by_fault.get(fault, 0) + 1
        if outcome.violation is not None:
            self.violations.append(outcome.violation)

    def in_short(self) -> str:
        """One line, for the progress display."""
        return f"{self.runs:,} runs from seed {self.seed}, {self.operations:,} operations, {len(self.violations)} violations"


def run_seed(protocol: str, service: str, seed: int) -> Outcome:
    """Draw a run from its seed and do it. Called in the worker processes."""
    spec = draw_spec(protocol, service, seed, catalog.protocol(protocol).max_replicas)
    result = simulation_of(spec).run()
    return Outcome(
        seed,
        spec.replicas,
        spec.faults,
        result.operations,
        sum(result.failures.values()),
        result.messages_delivered,
        result.virtual_seconds,
        result.reconciliations,
        result.violation,
    )


@click.command("fuzz")
@click.option("--protocol", default="speculative", show_default=True, help=f"One of {', '.join(catalog.protocol_names())}.")
@click.option("--service", default=_SERVICE, show_default=True, help="What is replicated, as module:Class.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="How long to begin runs.  [default: 60; with --runs no limit]")
@click.option("--runs", type=click.IntRange(min=1), help="How many runs at most; with --seed, the way to repeat one.")
@click.option("--seed", type=click.IntRange(min=0), help="The seed of the first run; the others count on from it.  [default: a random one]")
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@json_option
def command(protocol: str, service: str, seconds: float | None, runs: int | None, seed: int | None, workers: int, as_json: bool) -> int:
    """Simulate many random fault mixes and look for violations.

    Each run has a seed that decides all of it: cluster size, load, faults, timeouts, delays. The command that repeats a run is printed with
    every violation. Exits 1 if there was one.
    """
    draw_spec(protocol, service, 0, catalog.protocol(protocol).max_replicas).validate()
    catalog.service(service)
    totals = Totals(protocol, service, SystemRandom().randrange(_SEEDS) if seed is None else seed)
    if seconds is None:
        seconds = 60.0 if runs is None else float("inf")
    console = Console(stderr=True, soft_wrap=True)
    began = monotonic()
    _run_all(totals, seconds, runs, workers, console)
    totals.seconds = round(monotonic() - began, 3)
    if as_json:
        print_json(totals)
    else:
        _print_table(totals)
    return 1 if totals.violations else 0


def _run_all(totals: Totals, seconds: float, runs: int | None, workers: int, console: Console) -> None:
    """Keep the workers busy until time is up, the runs are done, there are too many violations, or Ctrl-C."""
    seeds = iter(count(totals.seed) if runs is None else range(totals.seed, totals.seed + runs))
    deadline = monotonic() + seconds
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    executor = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_leave_interrupts_to_the_parent)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(totals.in_short(), total=runs if seconds == float("inf") else seconds)
        try:
            for outcome in _outcomes(executor, totals, seeds, deadline, workers * _QUEUED_PER_WORKER):
                totals.add(outcome)
                if outcome.violation is not None:
                    print_violation(console, outcome.violation)
                done = totals.runs if seconds == float("inf") else seconds - max(0.0, deadline - monotonic())
                progress.update(task, completed=done, description=totals.in_short())
                if len(totals.violations) >= _MOST_VIOLATIONS:
                    break
        except KeyboardInterrupt:
            console.print("interrupted; what follows is about the runs until then")
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _outcomes(executor: ProcessPoolExecutor, totals: Totals, seeds: Iterator[int], deadline: float, queued: int) -> Iterator[Outcome]:
    """Outcomes as they come, each making room for a new run."""
    pending: set[Future[Outcome]] = set()
    while True:
        while len(pending) < queued and monotonic() < deadline and (seed := next(seeds, None)) is not None:
            pending.add(executor.submit(run_seed, totals.protocol, totals.service, seed))
        if not pending:
            return
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield from sorted((future.result() for future in done), key=lambda outcome: outcome.seed)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _print_table(totals: Totals) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = [
        ("protocol", f"{totals.protocol}, {totals.service}"),
        ("runs", f"{totals.runs:,} in {totals.seconds:.1f} s, seeds from {totals.seed}"),
        ("replicas", ", ".join(f"{n}: {runs:,} runs" for n, runs in sorted(totals.runs_by_replicas.items()))),
        ("faults", ", ".join(f"{name} {runs:,}" for name, runs in sorted(totals.runs_by_fault.items()))),
        ("operations", f"{totals.operations:,} with a result, {totals.unanswered:,} without"),
        ("messages", f"{totals.messages:,} in {totals.virtual_seconds:,.1f} virtual seconds"),
        ("reconciliations", f"{totals.reconciliations:,}"),
        ("violations", f"[bold {'red' if totals.violations else 'green'}]{len(totals.violations)}"),
    ]
    for name, value in rows:
        table.add_row(f"[bold]{name}", value)
    console = Console(soft_wrap=True)
    console.print(table)
    for violation in totals.violations:
        print_violation(console, violation)
