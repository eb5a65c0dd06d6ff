"""`stretto fuzz`: many simulated runs, each with its own mix of faults, load and configuration."""

from __future__ import annotations

import os
from pathlib import Path
from random import SystemRandom
from time import monotonic
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from stretto import catalog
from stretto.cli import corpus
from stretto.cli.hunt import Finding, Hunt, Plan
from stretto.cli.options import json_option, print_json
from stretto.cli.simulate import names, print_violation, settings
from stretto.core.config import DEFAULT_PROTOCOL
from stretto.simulation.run import SimulationResult
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.swarm import Fixed, draw_spec
from stretto.verify.linearizability import UNDECIDED

_SERVICE = "stretto.apps.kv:KeyValueStore"
"""One whose results tell where in the log an operation ran, so that a wrong place shows."""
_SEEDS = 1 << 32


class Totals(msgspec.Struct):
    """The sums over all runs.

    - `faults`: how often each struck;
    - `features`: how many different rare things were reached;
    - `undecided`: how many histories were too hard for the linearizability checker's budget.
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

    def add(self, result: SimulationResult) -> None:
        """Count one run."""
        spec = result.spec
        self.runs += 1
        self.operations += result.operations
        self.unanswered += sum(result.failures.values())
        self.messages += result.messages_delivered
        self.virtual_seconds += result.virtual_seconds
        self.reconciliations += result.reconciliations
        self.restarts += result.restarts
        self.recoveries += result.recoveries
        self.undecided += result.history == UNDECIDED
        self.failed += result.violation is not None
        self.runs_by_replicas[spec.replicas] = self.runs_by_replicas.get(spec.replicas, 0) + 1
        self.runs_by_durability[spec.durability] = self.runs_by_durability.get(spec.durability, 0) + 1
        for fault, times in result.struck.items():
            self.faults[fault] = self.faults.get(fault, 0) + times

    def in_short(self) -> str:
        """One line, for the progress display."""
        return f"{self.runs:,} runs from seed {self.seed}, {self.operations:,} operations, {self.failed} violations"


@click.command("fuzz")
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    default=(DEFAULT_PROTOCOL,),
    show_default=True,
    help=f"One of {', '.join(catalog.protocol_names())}, or all; may be given several times.",
)
@click.option("--service", default=_SERVICE, show_default=True, help="What is replicated, as module:Class.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="How long to begin runs.  [default: 60; with --runs no limit]")
@click.option("--runs", type=click.IntRange(min=1), help="How many runs at most.")
@click.option("--seed", type=click.IntRange(min=0), help="The seed of the first run; the others count on from it.  [default: a random one]")
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--shrink", type=click.IntRange(min=0), default=500, show_default=True, help="Runs that making a failure small may take.")
@click.option(
    "--corpus",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep runs that failed, or reached something new, in this directory; begin with those that are there, and try their neighbours.",
)
@click.option("--violations", type=click.IntRange(min=1), default=20, show_default=True, help="End after so many.")
@click.option("--replicas", type=click.IntRange(min=1), help="Always so many.  [default: drawn]")
@click.option("--operations", type=click.IntRange(min=1), help="Always so many calls.  [default: drawn]")
@click.option("--durability", type=click.Choice(("memory", "disk")), help="Always this.  [default: drawn]")
@click.option("--faults", callback=names, default="", metavar="NAME,...", help="In each run most of these.  [default: some of all]")
@click.option("--set", "changes", multiple=True, callback=settings, metavar="KEY=VALUE", help="A setting of simulate, not to be drawn.")
@json_option
def command(
    protocols: tuple[str, ...],
    service: str,
    seconds: float | None,
    runs: int | None,
    seed: int | None,
    workers: int,
    shrink: int,
    directory: Path | None,
    violations: int,
    changes: dict[str, str],
    as_json: bool,
    **fixed: Any,
) -> int:
    """Simulate many random fault mixes and look for violations.

    Each run draws everything that is not fixed: cluster size, durability, load, faults and how strong they are, timeouts, limits, delays.
    A run with a violation is made as small as possible, and the command that repeats it is printed. Exits 1 if there was one.
    """
    common = Fixed(settings=changes, **fixed)
    named = list(catalog.protocol_names()) if "all" in protocols else list(dict.fromkeys(protocols))
    for name in named:
        definition = catalog.protocol(name)
        draw_spec(name, service, 0, definition.max_replicas, common, definition.usual_sequencers).validate()
    catalog.service(service)
    totals = Totals(named, service, SystemRandom().randrange(_SEEDS) if seed is None else seed)
    if seconds is None:
        seconds = 60.0 if runs is None else float("inf")
    kept = None if directory is None else [entry.spec for entry in corpus.load(directory)]
    plan = Plan(named, service, totals.seed, runs, kept, common)
    began = monotonic()
    _run_all(totals, Keeper(plan, directory), Hunt(plan, workers, began + seconds, shrink), seconds, runs, violations)
    totals.seconds = round(monotonic() - began, 3)
    if as_json:
        print_json(totals)
    else:
        _print_table(totals)
    return 1 if totals.failed else 0


class Keeper:
    """Keeps what is worth having again: in the plan, and in the corpus if there is a directory. `seen`: what all runs have reached."""

    def __init__(self, plan: Plan, directory: Path | None) -> None:
        self.seen: set[str] = set()
        self._plan = plan
        self._directory = directory

    def keep(self, outcome: SimulationResult | Finding) -> None:
        """Look at what a run gave."""
        if isinstance(outcome, Finding):
            violation = outcome.violation
            self._save("failed", f"{violation.kind}: {violation.description}", outcome.spec)
            return
        new = {f"{outcome.spec.protocol}: {feature}" for feature in outcome.features} - self.seen
        self.seen |= new
        if new and outcome.violation is None and outcome.spec not in self._plan.interesting:
            self._plan.interesting.append(outcome.spec)
            self._save("reached", "; ".join(sorted(new)), outcome.spec)

    def _save(self, kind: str, comment: str, spec: SimulationSpec) -> None:
        if self._directory is not None:
            corpus.save(self._directory, kind, corpus.Entry(comment, spec))


def _run_all(totals: Totals, keeper: Keeper, hunt: Hunt, seconds: float, runs: int | None, violations: int) -> None:
    """Go on until time is up, the runs are done, there are too many violations, or Ctrl-C."""
    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    began = monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(totals.in_short(), total=runs if seconds == float("inf") else seconds)
        try:
            for outcome in hunt.outcomes():
                keeper.keep(outcome)
                if isinstance(outcome, Finding):
                    totals.violations.append(outcome)
                    print_finding(console, outcome)
                else:
                    totals.add(outcome)
                done = totals.runs if seconds == float("inf") else min(seconds, monotonic() - began)
                progress.update(task, completed=done, description=totals.in_short())
                if len(totals.violations) >= violations:
                    break
        except KeyboardInterrupt:
            console.print("interrupted; what follows is about the runs until then")
        finally:
            hunt.end()
    totals.features = len(keeper.seen)


def print_finding(console: Console, finding: Finding) -> None:
    """Say what went wrong, and how to see it again, in the smallest run and in the first."""
    print_violation(console, finding.violation)
    if finding.found_with != finding.violation.command:
        told = f"made smaller in {finding.shrinking_runs} runs; found with: {finding.found_with}"
        console.print(told, markup=False, highlight=False)


def _print_table(totals: Totals) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = [
        ("protocols", f"{', '.join(totals.protocols)}; {totals.service}"),
        ("runs", f"{totals.runs:,} in {totals.seconds:.1f} s, seeds from {totals.seed}"),
        ("replicas", _counts(totals.runs_by_replicas, " replicas")),
        ("durability", _counts(totals.runs_by_durability)),
        ("faults", _counts(totals.faults)),
        ("operations", f"{totals.operations:,} with a result, {totals.unanswered:,} without"),
        ("messages", f"{totals.messages:,} in {totals.virtual_seconds:,.1f} virtual seconds"),
        ("reconciliations", f"{totals.reconciliations:,}"),
        ("restarts", f"{totals.restarts:,}; {totals.recoveries:,} of them without memory, and back in service"),
        ("undecided", f"{totals.undecided:,} histories"),
        ("reached", f"{totals.features:,} different rare things"),
        ("violations", f"[bold {'red' if totals.failed else 'green'}]{totals.failed}"),
    ]
    for name, value in rows:
        table.add_row(f"[bold]{name}", value)
    console = Console(soft_wrap=True)
    console.print(table)
    for finding in totals.violations:
        print_finding(console, finding)


def _counts(numbers: dict[Any, int], what: str = "") -> str:
    return ", ".join(f"{name}{what}: {number:,}" for name, number in sorted(numbers.items()))
