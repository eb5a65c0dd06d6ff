"""`stretto torture`: real faults on real processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from stretto.cli.options import durability_option, json_option, print_json, protocol_option
from stretto.core.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from stretto.core.config import Durability
    from stretto.torture.report import Report
    from stretto.torture.run import Outcome, Plan, Progress

_SERVICE = "stretto.apps.kv:KeyValueStore"
_SEEDS = 1 << 32


@click.command()
@protocol_option
@click.option("--replicas", default=3, show_default=True, help="How many replica processes: an odd number from 3.")
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(1, 86_400), help="How long faults strike.")
@click.option("--seed", type=click.IntRange(min=0), help="What strikes when, and whom.  [default: a random one]")
@durability_option
@click.option("--rate", default=2_000, show_default=True, type=click.IntRange(300, 20_000), help="Operations a second, if they are served.")
@click.option("--faults", help="Only these kinds, separated by commas.  [default: all that can strike]")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep history, faults and logs there.  [default: only if it is not ok]")
@json_option
def command(
    protocol: str,
    replicas: int,
    seconds: float,
    seed: int | None,
    durability: Durability,
    rate: int,
    faults: str | None,
    keep: Path | None,
    as_json: bool,
) -> int:
    """Kill, pause, cut off and starve real replica processes under load, and check what their clients saw.

    All that is started and made is ended and removed. Exit status 1 if the history is not linearizable or could not be checked, if an
    acknowledged operation is gone, if a replica ended of itself, or if service did not come back.
    """
    from rich.console import Console

    from stretto.bench.measure import ended_by_sigterm
    from stretto.catalog import check
    from stretto.catalog import protocol as protocol_named
    from stretto.runtime.local_cluster import loopback_config
    from stretto.torture.leftovers import remove_leftovers
    from stretto.torture.run import Plan

    if replicas < 3:
        raise ConfigurationError(f"{replicas} replicas survive no fault; 3 or more", key="--replicas")
    sequencers = protocol_named(protocol).usual_sequencers
    check(loopback_config(replicas, protocol, _SERVICE, sequencers=sequencers, durability=durability))
    seed = SystemRandom().randrange(_SEEDS) if seed is None else seed
    console = Console(stderr=True, soft_wrap=True)
    with ended_by_sigterm():
        for directory in remove_leftovers():
            console.print(f"removed what an earlier run left: {directory}")
        with _progress(console) as progress:
            plan = Plan(seconds, seed, rate, _kinds(faults))
            report = _run(plan, protocol, replicas, sequencers, durability, keep, progress)
    if as_json:
        print_json(report)
    else:
        _print(report)
    return 0 if report.ok else 1


def _run(
    plan: Plan, protocol: str, replicas: int, sequencers: int, durability: Durability, kept: Path | None, progress: Progress
) -> Report:
    from dataclasses import replace

    from stretto import connect_async
    from stretto.apps import kv_torture
    from stretto.torture.environment import environment
    from stretto.torture.report import FAULTS, keep, report_of
    from stretto.torture.run import Torture

    progress("starting replicas", None)
    made = environment(protocol, _SERVICE, replicas, durability, plan.kinds, sequencers)
    with made as place, (place.directory / FAULTS).open("wb", buffering=0) as log:
        plan = replace(plan, kinds=tuple(kind for kind in plan.kinds if kind not in place.skipped))
        if not plan.kinds:
            raise ConfigurationError("; ".join(f"{kind}: {reason}" for kind, reason in place.skipped.items()), key="--faults")
        outcome = Torture(plan, place.cluster, place.network, place.disk, log, progress).run(
            lambda: connect_async(place.cluster.config), kv_torture
        )
        place.cluster.stop()
        progress("checking", None)
        report = report_of(place, plan.seed, outcome, _verdict(outcome))
        if kept is None and not report.ok:
            kept = Path(f"stretto-torture-{plan.seed}")
        if kept is not None:
            keep(place, outcome, report, kept)
        return report


def _verdict(outcome: Outcome) -> str:
    """What the checker says of the history; Ctrl-C leaves it open."""
    from stretto.apps.kv_model import KeyValueModel
    from stretto.verify.linearizability import UNDECIDED, check

    try:
        return check(outcome.history, KeyValueModel()).verdict
    except KeyboardInterrupt:
        return UNDECIDED


def _kinds(faults: str | None) -> tuple[str, ...]:
    from stretto.torture.schedule import KINDS

    names = tuple(KINDS) if faults is None else tuple(faults.split(","))
    for name in names:
        if name not in KINDS:
            raise ConfigurationError(f"{name!r} is no kind of fault; there are {', '.join(KINDS)}", key="--faults")
    return names


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """A line on stderr that says what goes on."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, done: float | None) -> None:
            bar.update(task, description=what, total=None if done is None else 1.0, completed=done or 0.0, refresh=True)

        yield show


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    cluster = f"{report.protocol}, {report.replicas} replicas, durability {report.durability}"
    title = f"{cluster}: {report.seconds:g} s of faults, seed {report.seed}"
    table = Table(box=None, show_header=False, title=title, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for name, text in _rows(report):
        table.add_row(name, text)
    Console().print(table)


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    """Name and text of what a person wants to see."""
    yield "faults", ", ".join(f"{kind} {count:,}" for kind, count in sorted(report.faults.items())) or "none"
    for reason in dict.fromkeys(report.skipped.values()):
        yield "skipped", f"{', '.join(kind for kind, why in report.skipped.items() if why == reason)}: {reason}"
    error = f", the last one so: {report.last_error}" if report.last_error else ""
    yield "operations", f"{report.operations:,} answered, {report.unanswered:,} with an outcome that is not known{error}"
    yield "service", f"longest time without an answer {report.longest_gap_ms:,.1f} ms; {_back(report)}"
    times = report.recoveries
    if times.median_ms is not None:
        yield "recoveries", f"{times.count:,}, back in service after {times.median_ms:,.0f} ms (median), {times.max_ms:,.0f} ms (longest)"
    for replica, reason in report.died.items():
        yield "died", f"[bold red]replica {replica} ended of itself:[/] {escape(reason)}"
    if report.lost is None:
        yield "read back", "[bold red]nothing could be read back[/]"
    else:
        yield "read back", f"{report.lost:,} lost (acknowledged and gone), {report.repeated:,} repeated"
    color = {"ok": "green", "unknown": "yellow"}.get(report.verdict, "red")
    yield "verdict", f"[bold {color}]{report.verdict}[/] ({report.checked:,} contending operations checked)"
    if report.kept is not None:
        yield "kept", f"history, faults and logs in {escape(report.kept)}"


def _back(report: Report) -> str:
    if report.back_in_service_ms is None:
        return "[bold red]not all replicas came back into service[/]"
    return f"all replicas served {report.back_in_service_ms:,.0f} ms after the last fault"
