"""`stretto testbed bench`: protocols over the designs of multicast, on real switches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.network.options import designs_option, merge_option
from stretto.cli.options import CommaSeparated, NumberRange, bench_load_options, json_option, plot_option, repeat_option, seed_option
from stretto.cli.output import print_json, print_table
from stretto.cli.testbed.options import ready, testbed_options

if TYPE_CHECKING:
    from stretto.bench.plan import Plan
    from stretto.bench.testbed import Setting

_DEFAULT_PROTOCOLS = "adaptive,speculative,multipaxos-batched"


@click.command()
@click.option("--protocol", "protocols", type=CommaSeparated(str), default=_DEFAULT_PROTOCOLS, show_default=True, help="Protocols, or all.")
@designs_option
@merge_option
@click.option("--replicas", default=3, show_default=True, help="How many replicas, each on a host of its own.")
@bench_load_options(client_processes=3, sessions=12, seconds=4.0)
@click.option("--background", type=NumberRange(0, 1, max_open=True), default=0.0, show_default=True, help="Load by other traffic.")
@click.option("--kill-root", is_flag=True, help="Half-way, the root switch that most multicasts pass loses its power.")
@repeat_option
@seed_option("Decides places, hashes, and the load.", 1)
@testbed_options
@plot_option("throughput and reconciliations by design")
@json_option
def command(
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

    Replicas, sequencers and client processes are on hosts of their own and multicast through the switches. With --json one line is
    printed for each protocol and design, as by stretto bench. Exit status 1 if a call failed or a protocol could not be measured.
    """
    from stretto import catalog
    from stretto.bench.plan import Plan
    from stretto.bench.testbed import Setting, sweep

    names = catalog.protocol_names() if protocols == ("all",) else protocols
    for protocol in names:
        catalog.protocol(protocol)
    plan, setting = Plan(**load), Setting(replicas, background, kill_root, repeat)
    rows: list[dict[str, Any]] = []
    try:
        with ready(name, topology, scale) as (fabric, controller, progress):
            for row in sweep(fabric, controller, plan, setting, names, [(design, merge) for design in designs], progress):
                rows.append(row)
                if as_json:
                    print_json(row)
    finally:
        if not as_json and rows:
            print_table([_brief(row) for row in rows])
    if plot is not None:
        from stretto.bench.plots import plot_designs

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
