"""`stretto torture`: real faults on real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from stretto.cli.options import KEY_VALUE_STORE, NumberRange, durability_option, faults_option, json_option, protocol_option, seed_option
from stretto.cli.output import print_facts, print_json, progress_line, writing
from stretto.core.errors import ConfigurationError

if TYPE_CHECKING:
    from stretto.core.config import Durability
    from stretto.torture.report import Report
    from stretto.torture.run import Outcome, Plan, Progress


@click.command()
@protocol_option
@click.option("--replicas", default=3, show_default=True, help="How many replica processes: an odd number from 3.")
@click.option("--seconds", default=30.0, show_default=True, type=NumberRange(1, 86_400), help="For how long faults strike.")
@seed_option("Decides which fault strikes when, and which replica.")
@durability_option
@click.option("--rate", default=2_000, show_default=True, type=click.IntRange(300, 20_000), help="Operations a second, if they are served.")
@faults_option("Only these kinds.  [default: all that can strike]")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep history, faults and logs there.  [default: only if it is not ok]")
@json_option
def command(
    protocol: str,
    replicas: int,
    seconds: float,
    seed: int,
    durability: Durability,
    rate: int,
    faults: tuple[str, ...],
    keep: Path | None,
    as_json: bool,
) -> int:
    """Kill, pause, cut off and starve real replica processes under load, and check what their clients saw.

    Everything that is started is ended, and everything that is made is removed. Exit status 1 if the history is not linearizable or could
    not be checked, if an acknowledged operation was lost, if a replica ended by itself, or if service did not come back.
    """
    from rich.console import Console

    from stretto.catalog import check
    from stretto.catalog import protocol as protocol_named
    from stretto.cli.interrupts import ended_by_signals
    from stretto.runtime.local_cluster import loopback_config
    from stretto.torture.leftovers import remove_leftovers
    from stretto.torture.run import Plan

    if replicas < 3:
        raise ConfigurationError(f"{replicas} replicas survive no fault; 3 or more", key="--replicas")
    sequencers = protocol_named(protocol).usual_sequencers
    check(loopback_config(replicas, protocol, KEY_VALUE_STORE, sequencers=sequencers, durability=durability))
    if keep is not None:
        with writing(keep):  # now, since a result that cannot be kept is lost
            keep.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, soft_wrap=True)
    with ended_by_signals():
        for directory in remove_leftovers():
            console.print(f"removed what an earlier run left: {directory}")
        with progress_line(console) as progress:
            plan = Plan(seconds, seed, rate, _kinds(faults))
            report = _run(plan, protocol, replicas, sequencers, durability, keep, progress)
    if as_json:
        print_json(report)
    else:
        print_facts(_facts(report), _title(report))
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
    made = environment(protocol, KEY_VALUE_STORE, replicas, durability, plan.kinds, sequencers)
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


def _kinds(faults: tuple[str, ...]) -> tuple[str, ...]:
    from stretto.torture.schedule import KINDS

    for name in faults:
        if name not in KINDS:
            raise ConfigurationError(f"{name!r} is not a kind of fault; there are {', '.join(KINDS)}", key="--faults")
    return faults or tuple(KINDS)


def _title(report: Report) -> str:
    cluster = f"{report.protocol}, {report.replicas} replicas, durability {report.durability}"
    return f"{cluster}: {report.seconds:g} s of faults, seed {report.seed}"


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    """Name and text of what a person wants to see."""
    yield "faults", ", ".join(f"{kind} {count:,}" for kind, count in sorted(report.faults.items())) or "none"
    for reason in dict.fromkeys(report.skipped.values()):
        yield "skipped", f"{', '.join(kind for kind, why in report.skipped.items() if why == reason)}: {reason}"
    error = f", the last one with: {report.last_error}" if report.last_error else ""
    yield "operations", f"{report.operations:,} answered, {report.unanswered:,} with an unknown outcome{error}"
    yield "service", f"longest time without an answer {report.longest_gap_ms:,.1f} ms; {_back(report)}"
    times = report.recoveries
    if times.median_ms is not None:
        yield "recoveries", f"{times.count:,}, back in service after {times.median_ms:,.0f} ms (median), {times.max_ms:,.0f} ms (longest)"
    for replica, reason in report.died.items():
        yield "died", f"[bold red]replica {replica} ended by itself:[/] {escape(reason)}"
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
