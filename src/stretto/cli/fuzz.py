"""`stretto fuzz`: many simulated runs, each with its own mix of faults, load and configuration."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stretto import catalog
from stretto.cli.interrupts import ended_by_signals
from stretto.cli.options import NumberRange, faults_option, json_option, seed_option, service_option, settings_option, workers_option
from stretto.cli.output import exit_status, print_facts, print_json
from stretto.cli.simulate import print_violation, simulation_of
from stretto.core.config import DEFAULT_PROTOCOL
from stretto.fuzzing import corpus
from stretto.fuzzing.hunt import Finding, Hunt
from stretto.fuzzing.plan import Plan
from stretto.fuzzing.swarm import Fixed, draw_spec
from stretto.fuzzing.totals import Totals
from stretto.simulation.run import SimulationResult
from stretto.simulation.spec import SimulationSpec


def run_spec(spec: SimulationSpec) -> SimulationResult:
    """Do one run, in a worker process."""
    return simulation_of(spec).run()


@click.command("fuzz")
@click.option(
    "--protocol",
    "protocol_names",
    multiple=True,
    default=(DEFAULT_PROTOCOL,),
    show_default=True,
    help=f"One of {', '.join(catalog.protocol_names())}, or all; may be given several times.",
)
@service_option()
@click.option(
    "--seconds",
    type=NumberRange(min=0, min_open=True),
    help="For how long to start runs.  [default: 60; no limit with --runs or --operations]",
)
@click.option("--runs", type=click.IntRange(min=1), help="How many runs at most.")
@click.option("--operations", "budget", type=click.IntRange(min=1), help="Start runs until they have this many calls in all.")
@seed_option("The seed of the first run; the other runs have the seeds after it.")
@workers_option
@click.option(
    "--shrink", type=click.IntRange(min=0), default=500, show_default=True, help="How many runs the shrinking of a failure may take."
)
@click.option(
    "--corpus",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep runs that failed, or reached something new, in this directory; start with those that are there, and try their neighbours.",
)
@click.option("--violations", type=click.IntRange(min=1), default=20, show_default=True, help="End after this many.")
@click.option("--replicas", type=click.IntRange(min=1), help="Always this many.  [default: drawn]")
@click.option("--operations-per-run", "operations", type=click.IntRange(min=1), help="Always this many calls.  [default: drawn]")
@click.option("--durability", type=click.Choice(("memory", "disk")), help="Always this.  [default: drawn]")
@faults_option("In each run most of these.  [default: some of all]")
@settings_option("A setting of stretto simulate, which is not drawn.")
@json_option
def command(
    protocol_names: tuple[str, ...],
    service: str,
    seconds: float | None,
    runs: int | None,
    budget: int | None,
    seed: int,
    workers: int,
    shrink: int,
    directory: Path | None,
    violations: int,
    changes: dict[str, str],
    as_json: bool,
    **fixed: Any,
) -> int:
    """Simulate many random fault mixes and look for violations.

    Each run draws everything that is not fixed: cluster size, durability, load, faults and their strength, timeouts, limits, delays. A run
    with a violation is shrunk, and the command that repeats it is printed. --seconds, --runs and --operations end the runs, whichever comes
    first. Exit status 1 if there was a violation. Ctrl-C ends the runs and prints the totals until then.
    """
    common = Fixed(settings=changes, **fixed)
    named = list(catalog.protocol_names()) if "all" in protocol_names else list(dict.fromkeys(protocol_names))
    protocols = [catalog.protocol(name) for name in named]
    for protocol in protocols:
        draw_spec(protocol.name, service, 0, protocol.max_replicas, common, protocol.usual_sequencers).validate()
    catalog.service(service)
    totals = Totals(named, service, seed)
    if seconds is None:
        seconds = 60.0 if runs is None and budget is None else float("inf")
    kept = None if directory is None else [entry.spec for entry in corpus.load(directory)]
    plan = Plan(protocols, service, totals.seed, runs, budget, kept, common)
    began = monotonic()
    hunt = Hunt(plan, run_spec, workers, began + seconds, shrink)
    with ended_by_signals():
        interrupted = _run_all(totals, corpus.Keeper(plan, directory), hunt, Limits(seconds, runs, budget), violations)
    totals.seconds = round(monotonic() - began, 3)
    if as_json:
        print_json(totals)
    else:
        _print(totals)
    return exit_status(totals.failed > 0, interrupted)


class Limits(NamedTuple):
    """What ends the runs, whichever comes first: seconds of real time, how many runs, how many calls in all of them."""

    seconds: float
    runs: int | None
    operations: int | None

    def part_done(self, totals: Totals, seconds: float) -> float:
        """How near the runs are to their end, from 0 to 1."""
        parts = [seconds / self.seconds]
        if self.runs is not None:
            parts.append(totals.runs / self.runs)
        if self.operations is not None:
            parts.append((totals.operations + totals.unanswered) / self.operations)
        return min(1.0, max(parts))


def _run_all(totals: Totals, keeper: corpus.Keeper, hunt: Hunt, limits: Limits, violations: int) -> bool:
    """Run until a limit is reached, or there are enough violations; or until Ctrl-C: whether that came."""
    interrupted = False
    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    began = monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(totals.in_short(), total=1.0)
        try:
            for outcome in hunt.outcomes():
                keeper.keep(outcome)
                totals.add(outcome)
                if isinstance(outcome, Finding):
                    print_finding(console, outcome)
                progress.update(task, completed=limits.part_done(totals, monotonic() - began), description=totals.in_short())
                if len(totals.violations) >= violations:
                    break
        except KeyboardInterrupt:
            interrupted = True
            console.print("interrupted; these are the totals until then")
        finally:
            hunt.end()
    totals.features = len(keeper.seen)
    return interrupted


def print_finding(console: Console, finding: Finding) -> None:
    """Print what went wrong, and the commands that repeat the smallest run and the first."""
    print_violation(console, finding.violation)
    if finding.found_with != finding.violation.command:
        console.print(f"shrunk in {finding.shrinking_runs} runs; found with: {finding.found_with}", markup=False, highlight=False)


def _print(totals: Totals) -> None:
    facts = [
        ("protocols", f"{', '.join(totals.protocols)}; {totals.service}"),
        ("runs", f"{totals.runs:,} in {totals.seconds:.1f} s, seeds from {totals.seed}"),
        ("replicas", _counts(totals.runs_by_replicas, " replicas")),
        ("durability", _counts(totals.runs_by_durability)),
        ("faults", _counts(totals.faults)),
        ("operations", f"{totals.operations:,} with a result, {totals.unanswered:,} without"),
        ("messages", f"{totals.messages:,} in {totals.virtual_seconds:,.1f} virtual seconds"),
        ("reconciliations", f"{totals.reconciliations:,}"),
        ("restarts", f"{totals.restarts:,}; {totals.recoveries:,} of them with lost state, and back in service"),
        ("undecided", f"{totals.undecided:,} histories"),
        ("reached", f"{totals.features:,} different rare things"),
        ("violations", f"[bold {'red' if totals.failed else 'green'}]{totals.failed}"),
    ]
    print_facts(facts)
    console = Console(soft_wrap=True)
    for finding in totals.violations:
        print_finding(console, finding)


def _counts(numbers: dict[Any, int], what: str = "") -> str:
    return ", ".join(f"{name}{what}: {number:,}" for name, number in sorted(numbers.items()))
