"""`stretto testbed reorder`: how many messages receivers get in different orders, on real switches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.network.options import designs_option, members_options, merge_option, places_seed_option
from stretto.cli.options import CommaSeparated, json_option, plot_option
from stretto.cli.output import print_json, print_table, writing
from stretto.cli.testbed.options import ready, testbed_options
from stretto.core.errors import ConfigurationError

if TYPE_CHECKING:
    from stretto.network.experiment import Setting
    from stretto.testbed.commands import ControllerClient
    from stretto.testbed.fabric import Fabric

Print = Callable[[dict[str, Any]], None]


@click.command()
@testbed_options
@designs_option
@merge_option
@members_options(3)
@click.option(
    "--rate", "rates", type=CommaSeparated(float), default="900", show_default=True, help="Messages a second, of all senders together."
)
@click.option("--messages", default=3_000, show_default=True, help="Messages of all senders together, in each run.")
@click.option("--message-bytes", default=128, show_default=True, help="Size of a message, frame included.")
@places_seed_option
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs a row: this many seeds, counted from --seed.")
@click.option(
    "--background", "loads", type=CommaSeparated(float), default="0", show_default=True, help="Load of a link above each receiver's rack."
)
@click.option("--model", is_flag=True, help="Run the same in the packet model as well.")
@json_option
@plot_option("reorder rate against rate or load, of the testbed and the model,")
def command(
    name: str,
    topology: str | None,
    scale: float | None,
    designs: tuple[str, ...],
    rates: tuple[float, ...],
    loads: tuple[float, ...],
    seeds: int,
    model: bool,
    as_json: bool,
    plot: Path | None,
    **base: Any,
) -> None:
    """How many messages receivers get in different orders, on real switches.

    Uses the testbed that is up, or one that is up for this run only. The group, the messages and the measures are those of `stretto network
    reorder`. Sockets on the hosts send and receive; what is measured is the order in which the kernel received the messages. With
    --background, other hosts send bursts over a link above each receiver's rack.
    """
    runs = _runs(designs, rates, loads, seeds, base)
    lines: list[dict[str, Any]] = []

    def show(line: dict[str, Any]) -> None:
        if line["design"] in designs:
            lines.append(line)
            if as_json:
                print_json(line)

    try:
        with ready(name, topology, scale) as (fabric, controller, progress):
            caption = _caption(fabric, runs[0], seeds)
            click.echo(caption, err=True)
            _run(fabric, controller, runs, model, show, progress)
    finally:
        if lines and not as_json:
            print_table([_flat(line) for line in lines])
    for line in lines:
        if line.get("ignored"):
            click.echo(f"receivers ignored, with {line['design']}: {line['ignored']}", err=True)
    if plot is not None:
        from stretto.network.drawing import draw_side_by_side

        panels = {on: rows for on in ("testbed", "model") if (rows := [line for line in lines if line["on"] == on])}
        with writing(plot):
            draw_side_by_side(panels, caption, plot)


def _runs(designs: Sequence[str], rates: Sequence[float], loads: Sequence[float], seeds: int, base: dict[str, Any]) -> list[Setting]:
    from stretto.network import experiment
    from stretto.testbed.reordering import check

    if not rates or not loads or not designs:
        raise ConfigurationError("--rate, --background and --design are not empty", key="reorder")
    settings = [experiment.Setting(topology="testbed", rate=rate, **base) for rate in rates]
    runs = [run for setting in settings for run in experiment.settings(setting, designs, loads, seeds)]
    return [check(run) for run in runs]


def _run(fabric: Fabric, controller: ControllerClient, runs: Sequence[Setting], model: bool, show: Print, progress: Any) -> None:
    """Show the rows of the testbed, and then those of the model."""
    from stretto.network import experiment
    from stretto.network.groups import place
    from stretto.testbed import reordering
    from stretto.testbed.in_model import run_in_model, switch_delay_ns

    delay_ns = 0
    if model:
        progress("how long switches need", None)
        group = place(fabric.plan.topology, runs[0].senders, runs[0].receivers, runs[0].seed)
        delay_ns = switch_delay_ns(fabric, controller, group, runs[0].seed)
    plain: list[Any] = []
    for measured in reordering.sweep(fabric, controller, runs, progress):
        plain = measured if measured[0].outcome.setting.design == "plain" else plain
        show(reordering.row(measured, plain))
    if not model:
        return
    click.echo(f"the model has switches that need {delay_ns / 1000:.0f} us, as measured without load", err=True)
    for settings in reordering.by_row(runs):
        outcomes, seconds = zip(*(run_in_model(fabric, delay_ns, setting) for setting in settings), strict=True)
        plain = list(outcomes) if settings[0].design == "plain" else plain
        show(experiment.row(outcomes, plain, sum(seconds)) | {"on": "model"})


def _caption(fabric: Fabric, setting: Setting, seeds: int) -> str:
    switches, of_seeds = len(fabric.plan.switches), f"seed {setting.seed}"
    if seeds > 1:
        of_seeds = f"seeds {setting.seed} to {setting.seed + seeds - 1}"
    return (
        f"testbed {fabric.plan.name}: {switches} switches, links at {fabric.scale:g} of their rates; {setting.senders} senders, "
        f"{setting.receivers} receivers, {setting.messages} messages of {setting.message_bytes} bytes a run,\n"
        f"merge {setting.merge}, {of_seeds}"
    )


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """A row in the columns that fit a terminal."""
    flat = {"on": line["on"]} | {key: f"{line[key]:g}" for key in ("rate", "load")} | {key: line[key] for key in ("design", "merge")}
    for key in ("overtaken", "pairwise", "loss"):
        interval = f" ({line[key + '_low']:.2g}-{line[key + '_high']:.2g})" if f"{key}_low" in line else ""
        flat[key] = f"{line[key]:.3g}{interval}"
    for key in ("latency_us", "spread_us", "late_us"):
        flat[key] = " / ".join("-" if value is None else f"{value:.0f}" for value in line.get(key, {"": None}).values())
    return flat | {"link_load": line.get("link_load")}
