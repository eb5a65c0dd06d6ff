"""`stretto network reorder`: how many messages receivers get in different orders, in the packet-level model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from stretto.bench import network as bench
from stretto.cli.network.options import designs_option, members_options, merge_option, places_seed_option, topology_option
from stretto.cli.options import CommaSeparated, dask_option, json_option, plot_option, workers_option
from stretto.cli.output import print_json, print_rows, writing
from stretto.core.errors import ConfigurationError
from stretto.network import experiment, groups
from stretto.network.experiment import Outcome, Setting
from stretto.network.model.traffic import BURSTS
from stretto.network.topologies import named


@click.command()
@topology_option
@members_options(5)
@places_seed_option
@merge_option
@json_option
@designs_option
@click.option(
    "--load",
    "loads",
    type=CommaSeparated(float),
    default="0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9",
    show_default=True,
    help="The share of the links that other traffic takes.",
)
@click.option("--rate", default=10_000.0, show_default=True, help="Messages a second, of all senders together.")
@click.option("--messages", default=5_000, show_default=True, help="Messages of all senders together, in each run.")
@click.option("--message-bytes", default=128, show_default=True, help="Size of a message, frame included.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs a row: this many seeds, counted from --seed.")
@click.option("--bursts", type=click.Choice(BURSTS), default="onoff", show_default=True, help="How other traffic comes.")
@click.option("--burst-packets", default=16.0, show_default=True, help="Mean packets in a burst of onoff.")
@click.option("--burst-gbps", type=float, help="Rate within a burst.  [default: that of a host's link]")
@click.option("--jitter-us", default=0.0, show_default=True, help="Mean jitter of each host's stack, exponential.")
@workers_option
@dask_option
@plot_option("reorder rate against load")
def command(
    designs: tuple[str, ...],
    loads: tuple[float, ...],
    seeds: int,
    as_json: bool,
    workers: int,
    dask: str | None,
    plot: Path | None,
    **base: Any,
) -> None:
    """How many messages receivers get in different orders, by design and load.

    Senders and receivers are placed at random over the network, receivers in racks of their own as far as there are racks.
    """
    if not loads or not designs:
        raise ConfigurationError("--load and --design are not empty", key="reorder")
    setting = Setting(**base)
    network = named(setting.topology)
    runs = list(experiment.settings(setting, designs, loads, seeds))
    for run in runs:
        run.validate()
    placed = groups.place(network, setting.senders, setting.receivers, setting.seed)
    click.echo(_caption(setting, seeds), err=True)
    click.echo(f"with seed {setting.seed}, {', '.join(placed.senders)} send to {', '.join(placed.members)}", err=True)
    lines: list[dict[str, Any]] = []
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("runs", total=len(runs))

            def advancing(outcomes: Iterator[tuple[Outcome, float]]) -> Iterator[tuple[Outcome, float]]:
                for outcome in outcomes:
                    progress.advance(bar)
                    yield outcome

            for line in bench.rows(advancing(bench.sweep(runs, min(workers, len(runs)), dask))):
                if line["design"] in designs:
                    lines.append(line)
                    if as_json:
                        print_json(line)
    finally:
        if not as_json:
            print_rows([_flat(line) for line in lines], as_json)
    if plot is not None:
        from stretto.network.drawing import draw_reordering

        with writing(plot):
            draw_reordering(lines, _caption(setting, seeds), plot)


def _caption(setting: Setting, seeds: int) -> str:
    peak = "a host's rate" if setting.burst_gbps is None else f"{setting.burst_gbps:g} Gbit/s"
    bursts = f"onoff, bursts of {setting.burst_packets:g} packets at {peak}" if setting.bursts == "onoff" else setting.bursts
    several = f"seeds {setting.seed} to {setting.seed + seeds - 1}" if seeds > 1 else f"seed {setting.seed}"
    return (
        f"{setting.topology}: {setting.rate:g} messages/s of {setting.message_bytes} bytes, {setting.senders} senders, "
        f"{setting.receivers} receivers in racks of their own, merge {setting.merge},\nother traffic {bursts}, "
        f"host jitter {setting.jitter_us:g} us, {setting.messages} messages a run, {several}"
    )


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """A row in the columns that fit a terminal."""
    flat = {key: line[key] for key in ("design", "merge", "load")}
    for key in ("overtaken", "pairwise", "lis", "loss"):
        interval = f" ({line[key + '_low']:.2g}-{line[key + '_high']:.2g})" if f"{key}_low" in line else ""
        flat[key] = f"{line[key]:.3g}{interval}"
    for key in ("latency_us", "spread_us", "quorum_added_us"):
        flat[key] = " / ".join("-" if value is None else f"{value:g}" for value in line[key].values())
    return flat | {"seconds": line["seconds"]}
