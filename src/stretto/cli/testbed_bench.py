"""`stretto testbed bench`: protocols over the designs of multicast, on real switches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import CommaSeparated, json_option, print_json, print_table, progress_line
from stretto.cli.testbed_options import testbed_options
from stretto.network.designs import DESIGNS, MERGES

if TYPE_CHECKING:
    from stretto.bench.plan import Plan
    from stretto.bench.testbed import Setting

_DEFAULT_PROTOCOLS = "adaptive,speculative,multipaxos-batched"


@click.command()
@click.option("--protocol", "protocols", type=CommaSeparated(str), default=_DEFAULT_PROTOCOLS, show_default=True, help="Protocols, or all.")
@click.option("--design", "designs", type=CommaSeparated(str, DESIGNS), default="all", show_default=True, help="Designs, or all.")
@click.option("--merge", type=click.Choice(MERGES), default="per_root", show_default=True, help="Where ways over different roots meet.")
@click.option("--replicas", default=3, show_default=True, help="How many replicas, each on a host of its own.")
@click.option("--client-processes", default=3, show_default=True, help="How many client processes, each on a host of its own.")
@click.option("--sessions", default=12, show_default=True, help="How many calls are under way at a time, over all client processes.")
@click.option("--rate", "rate_ops_s", type=float, help="An open loop: so many operations a second, due at random times.")
@click.option("--background", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True, help="Load by other traffic.")
@click.option("--seconds", default=4.0, show_default=True, help="How long to measure each.")
@click.option("--warm-up", "warm_up_s", default=1.0, show_default=True, help="For how many seconds the load runs before that.")
@click.option("--operation", type=click.Choice(["null", "kv"]), default="null", show_default=True, help="What is replicated.")
@click.option("--kill-root", is_flag=True, help="Half-way, the root switch that most multicasts pass loses its power.")
@click.option("--repeat", type=click.IntRange(1, 100), default=1, show_default=True, help="Measure each so often, and give medians.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Decides places, hashes, and the load.")
@testbed_options
@click.option("--plot", type=click.Path(path_type=Path), help="Draw throughput and reconciliations by design into this file.")
@json_option
def bench(
    protocols: tuple[str, ...],
    designs: tuple[str, ...],
    merge: str,
    replicas: int,
    background: float,
    kill_root: bool,
    repeat: int,
    name: str,
    topology: str | None,
    scale: float | None,
    plot: Path | None,
    as_json: bool,
    **load: Any,
) -> int:
    """Protocols over designs of multicast, on the switches of a testbed.

    Replicas, sequencers and client processes are on hosts of their own and multicast through the switches. With --json one line for each
    protocol and design, as stretto bench prints it. Exit status 1 if a call failed or a protocol could not be measured.
    """
    from stretto import catalog
    from stretto.bench.plan import Plan
    from stretto.bench.plots import check_plot_file, plot_designs
    from stretto.bench.testbed import Setting, sweep
    from stretto.cli.interrupts import ended_by_sigterm
    from stretto.testbed.session import running

    names = catalog.protocol_names() if protocols == ("all",) else protocols
    for protocol in names:
        catalog.protocol(protocol)
    if plot is not None:
        check_plot_file(plot)
    plan, setting = Plan(**load), Setting(replicas, background, kill_root, repeat)
    rows: list[dict[str, Any]] = []
    try:
        with (
            ended_by_sigterm(),
            progress_line() as progress,
            running(name, topology, scale, lambda what: progress(what, None)) as (fabric, controller),
        ):
            for row in sweep(fabric, controller, plan, setting, names, [(design, merge) for design in designs], progress):
                rows.append(row)
                if as_json:
                    print_json(row)
    finally:
        if not as_json and rows:
            print_table([_brief(row) for row in rows])
    if plot is not None:
        plot_designs(plot, [row for row in rows if "error" not in row], _title(plan, setting))
    return 1 if any("error" in row or row["failures"] for row in rows) else 0


def _title(plan: Plan, setting: Setting) -> str:
    load = f"{plan.sessions} sessions" if plan.rate_ops_s is None else f"{plan.rate_ops_s:,.0f} operations/s due"
    other = f", other traffic {setting.background:.0%}" if setting.background else ""
    return f"{setting.replicas} replicas, {plan.client_processes} client processes, {load}{other}, seed {plan.seed}"


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the columns that fit a terminal."""
    fine = "error" not in row
    return {
        "design": row["design"],
        "protocol": row["protocol"],
        "operations/s": f"{row['throughput_ops_s']:,.0f}" if fine else row["error"],
        "p50 us": _number(row["latency_us"]["p50"]) if fine else None,
        "p99 us": _number(row["latency_us"]["p99"]) if fine else None,
        "reconciliations/s": f"{row['reconciliations_per_s']:.1f}" if fine else None,
        "rolled back": f"{row['rolled_back_operations'] / max(row['operations'], 1):.2%}" if fine else None,
        "view changes": row["view_changes"] if fine else None,
        "failed calls": sum(row["failures"].values()) if fine else None,
        "killed": row["kill"]["target"] if fine and row["kill"] else None,
        "gap ms": _number(row["kill"]["gap_ms"]) if fine and row["kill"] else None,
    }


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"
