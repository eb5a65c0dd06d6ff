"""The commands of `stretto testbed` that send multicasts: in which order they come, and what a failure does to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import CommaSeparated, json_option, print_json, print_table, progress_line
from stretto.cli.testbed_options import testbed_options
from stretto.core.errors import ConfigurationError
from stretto.network.designs import DESIGNS, MERGES

if TYPE_CHECKING:
    from stretto.network.experiment import Setting
    from stretto.testbed.commands import ControllerClient
    from stretto.testbed.fabric import Fabric
    from stretto.testbed.failover import Interruption

Print = Callable[[dict[str, Any]], None]
_senders = click.option("--senders", default=3, show_default=True, help="How many hosts send.")
_receivers = click.option("--receivers", default=3, show_default=True, help="How many hosts receive.")
_merge = click.option(
    "--merge", type=click.Choice(MERGES), default="per_root", show_default=True, help="Where ways over different roots meet."
)
_seed = click.option("--seed", default=1, show_default=True, help="Decides places, hashes and traffic.")


@click.command()
@testbed_options
@click.option("--design", "designs", type=CommaSeparated(str, DESIGNS), default="all", show_default=True)
@_merge
@_senders
@_receivers
@click.option(
    "--rate", "rates", type=CommaSeparated(float), default="900", show_default=True, help="Messages a second, of all senders together."
)
@click.option("--messages", default=3_000, show_default=True, help="Messages of all senders together, in each run.")
@click.option("--message-bytes", default=128, show_default=True, help="Size of a message, frame included.")
@_seed
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs a row: this many seeds, counted from --seed.")
@click.option(
    "--background", "loads", type=CommaSeparated(float), default="0", show_default=True, help="Load of a link above each receiver's rack."
)
@click.option("--model", is_flag=True, help="Run the same in the packet model as well.")
@json_option
@click.option("--plot", type=click.Path(), help="Draw reorder rate against rate or load into this file, testbed and model side by side.")
def reorder(
    name: str,
    topology: str | None,
    scale: float | None,
    designs: tuple[str, ...],
    rates: tuple[float, ...],
    loads: tuple[float, ...],
    seeds: int,
    model: bool,
    as_json: bool,
    plot: str | None,
    **base: Any,
) -> None:
    """How many messages receivers get in different orders, on real switches.

    On the testbed that is up, or on one that is there for this run only. The group, the messages and the measures are those of `stretto
    network reorder`. Sockets on the hosts send and receive, and what counts is the order in which the kernel had them. With --background,
    other hosts send bursts over a link above each receiver's rack.
    """
    from stretto.bench.measure import ended_by_sigterm
    from stretto.testbed.session import running

    runs = _runs(designs, rates, loads, seeds, base)
    if plot and not Path(plot).absolute().parent.is_dir():
        raise ConfigurationError("cannot be written: there is no such directory", file=plot)
    lines: list[dict[str, Any]] = []

    def show(line: dict[str, Any]) -> None:
        if line["design"] in designs:
            lines.append(line)
            if as_json:
                print_json(line)

    try:
        with ended_by_sigterm(), progress_line() as progress, running(name, topology, scale, lambda what: progress(what, None)) as testbed:
            caption = _caption(testbed[0], runs[0], seeds)
            click.echo(caption, err=True)
            _run(*testbed, runs, model, show, progress)
    finally:
        if lines and not as_json:
            print_table([_flat(line) for line in lines])
    for line in lines:
        if line.get("ignored"):
            click.echo(f"receivers ignored, with {line['design']}: {line['ignored']}", err=True)
    if plot:
        _plot(lines, caption, plot)


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


def _plot(lines: Sequence[dict[str, Any]], caption: str, file: str) -> None:
    from stretto.network.drawing import draw_side_by_side

    panels = {on: rows for on in ("testbed", "model") if (rows := [line for line in lines if line["on"] == on])}
    try:
        draw_side_by_side(panels, caption, file)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot be written: {error}", file=file) from None


@click.command()
@testbed_options
@click.option("--what", type=click.Choice(["root", "link"]), default="root", show_default=True, help="The group's root, or a link below.")
@click.option("--design", type=click.Choice(DESIGNS), default="serialised", show_default=True)
@_merge
@_senders
@_receivers
@click.option("--rate", default=1_000.0, show_default=True, help="Messages a second, of all senders together.")
@_seed
@json_option
def failover(name: str, topology: str | None, scale: float | None, as_json: bool, **trial: Any) -> None:
    """Kill a root or a link that a group's multicasts pass, and bring it back: what receivers miss, and when the controller acted.

    On the testbed that is up, or on one that is there for this run only.
    """
    from stretto.bench.measure import ended_by_sigterm
    from stretto.testbed.failover import Trial, interrupt
    from stretto.testbed.session import running

    checked = Trial(**trial).validate()
    with ended_by_sigterm(), progress_line() as progress, running(name, topology, scale, lambda what: progress(what, None)) as testbed:
        interruptions = list(interrupt(*testbed, checked, lambda what: progress(what, None)))
    for interruption in interruptions:
        if as_json:
            print_json(interruption)
        else:
            _tell(interruption)


def _tell(interruption: Interruption) -> None:
    event = interruption
    click.echo(f"{event.element} {event.event} (the command took {event.command_ms:.0f} ms)")
    if event.noticed_ms is None or event.computed_ms is None or event.confirmed_ms is None:
        click.echo("  the controller had nothing to do")
    else:
        click.echo(
            f"  the controller had noticed it after {event.noticed_ms:.1f} ms, and knew what to do after {event.computed_ms:.1f} ms; "
            f"all switches had confirmed after {event.confirmed_ms:.1f} ms"
            + (f", now over {', '.join(event.roots)}" if event.roots else "")
        )
    for receiver in event.receivers:
        click.echo(f"  {receiver.host}: {receiver.gap_ms:.1f} ms without a message of one sender, {receiver.lost} messages lost")
    click.echo(f"  out of order: {event.overtaken:.2%} until the switches had confirmed, {event.overtaken_after:.2%} after")
