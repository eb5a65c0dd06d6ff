"""`stretto fuzz`: many simulated runs, each with its own mix of faults, load and configuration."""

from __future__ import annotations

import os
from pathlib import Path
from random import SystemRandom
from time import monotonic
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from stretto import catalog
from stretto.cli.options import json_option
from stretto.cli.output import print_json
from stretto.cli.simulate import names, print_violation, settings, simulation_of
from stretto.core.config import DEFAULT_PROTOCOL
from stretto.fuzzing import corpus
from stretto.fuzzing.hunt import Finding, Hunt
from stretto.fuzzing.plan import Plan
from stretto.fuzzing.swarm import Fixed, draw_spec
from stretto.fuzzing.totals import Totals
from stretto.simulation.run import SimulationResult
from stretto.simulation.spec import SimulationSpec

_SERVICE = "stretto.apps.kv:KeyValueStore"
"""One whose results tell where in the log an operation ran, so that a wrong place shows."""
_SEEDS = 1 << 32


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
    protocol_names: tuple[str, ...],
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
    named = list(catalog.protocol_names()) if "all" in protocol_names else list(dict.fromkeys(protocol_names))
    protocols = [catalog.protocol(name) for name in named]
    for protocol in protocols:
        draw_spec(protocol.name, service, 0, protocol.max_replicas, common, protocol.usual_sequencers).validate()
    catalog.service(service)
    totals = Totals(named, service, SystemRandom().randrange(_SEEDS) if seed is None else seed)
    if seconds is None:
        seconds = 60.0 if runs is None else float("inf")
    kept = None if directory is None else [entry.spec for entry in corpus.load(directory)]
    plan = Plan(protocols, service, totals.seed, runs, kept, common)
    began = monotonic()
    _run_all(totals, corpus.Keeper(plan, directory), Hunt(plan, run_spec, workers, began + seconds, shrink), seconds, runs, violations)
    totals.seconds = round(monotonic() - began, 3)
    if as_json:
        print_json(totals)
    else:
        _print_table(totals)
    return 1 if totals.failed else 0


def _run_all(totals: Totals, keeper: corpus.Keeper, hunt: Hunt, seconds: float, runs: int | None, violations: int) -> None:
    """Go on until time is up, the runs are done, there are too many violations, or Ctrl-C."""
    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    began = monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(totals.in_short(), total=runs if seconds == float("inf") else seconds)
        try:
            for outcome in hunt.outcomes():
                keeper.keep(outcome)
                totals.add(outcome)
                if isinstance(outcome, Finding):
                    print_finding(console, outcome)
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
