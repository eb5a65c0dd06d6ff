"""`stretto network`: look at multicast designs on a data-centre network, check their rules, and measure the order that they give."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.tree import Tree

from stretto.bench import network as bench
from stretto.cli.options import CommaSeparated, print_table
from stretto.core.config import is_ipv4
from stretto.core.errors import ConfigurationError, StrettoError
from stretto.network import experiment, groups, rules
from stretto.network.controller import Controller
from stretto.network.designs import DESIGNS, MERGES, Design, rules_for
from stretto.network.experiment import Outcome, Setting
from stretto.network.groups import Group
from stretto.network.model.traffic import BURSTS
from stretto.network.routes import Failed, Routes
from stretto.network.topologies import named
from stretto.network.topology import Topology
from stretto.network.verification import Violation, verify, walk


class _WrongUse(click.ClickException):
    exit_code = 2


def _options(*options: Callable[[Any], Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Several options at once, and errors of Stretto as one line with their exit status."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except ConfigurationError as error:
                raise _WrongUse(str(error)) from None
            except StrettoError as error:
                raise click.ClickException(str(error)) from None

        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate


_topology = click.option(
    "--topology", default="datacentre", show_default=True, help="testbed, datacentre, fat_tree(K), leaf_spine(L,S,H), or a .toml file."
)
_merge = click.option(
    "--merge", type=click.Choice(MERGES), default="per_root", show_default=True, help="Where ways over different roots meet."
)
_design = click.option("--design", type=click.Choice(DESIGNS), default="serialised", show_default=True)
_senders = click.option("--senders", default=5, show_default=True, help="How many hosts send.")
_receivers = click.option("--receivers", default=5, show_default=True, help="How many hosts receive.")
_seed = click.option("--seed", default=1, show_default=True, help="Decides places, hashes and traffic.")
_groups = click.option("--groups", "groups_file", type=click.Path(), help="A TOML file of groups, instead of random places.")
_group_count = click.option("--group-count", default=1, show_default=True, help="How many groups to place at random.")
_failed = click.option(
    "--failed", type=CommaSeparated(str), default="", help="Switches, hosts and links (by an end, node:port) that have failed."
)
_json = click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of tables.")
_places = (_topology, _senders, _receivers, _seed, _groups, _group_count)


@click.group(name="network")
def command() -> None:
    """Multicast designs on a data-centre network: their rules, and how much order they give."""


@command.command()
@_options(*_places, _design, _merge, _failed, _json)
@click.option("--plot", type=click.Path(), help="Draw the first group's ways into this file.")
@click.option("--save", type=click.Path(), help="Write the topology into this TOML file.")
def show(
    topology: str,
    senders: int,
    receivers: int,
    seed: int,
    groups_file: str | None,
    group_count: int,
    design: str,
    merge: str,
    failed: tuple[str, ...],
    as_json: bool,
    plot: str | None,
    save: str | None,
) -> None:
    """A topology, and the ways of groups' messages under a design."""
    network = named(topology)
    chosen = _chosen_groups(network, groups_file, group_count, senders, receivers, seed)
    compiler = Design(design, merge, seed)
    routes = Routes(network, Failed(network, failed))
    compiled = [rules_for(network, group, compiler, routes) for group in chosen]
    if save:
        _write(save, network.to_toml())
    if plot:
        from stretto.network.drawing import draw_group

        under = f"{design}, merge {merge}" if compiler.merges else design
        _writing(plot, lambda: draw_group(network, compiled[0], f"{topology}: {chosen[0].address} under {under} (seed {seed})", plot))
    console = Console()
    summary = {"switches": len(network.switches), "hosts": len(network.hosts), "links": len(network.links), "roots": network.roots}
    if as_json:
        _print_json({"topology": topology, **summary})
    else:
        console.print(f"[bold]{topology}[/]: {summary['switches']} switches, {summary['hosts']} hosts, {summary['links']} links")
    for each in compiled:
        walks = {sender: walk(network, each.rules, each.group.address, sender) for sender in each.group.senders or ()}
        if as_json:
            ways = {sender: dict(walked.arrivals) for sender, walked in walks.items()}
            _print_json({"group": msgspec.to_builtins(each.group), "design": design, "roots": each.roots, "ways": ways, "cut": each.cut})
            continue
        tree = Tree(f"[bold]{each.group.address}[/] under {design}" + (f", roots {', '.join(each.roots)}" if each.roots else ""))
        for sender, walked in walks.items():
            branch = tree.add(f"from {sender}")
            for host, way in sorted(walked.arrivals):
                branch.add(f"{' > '.join(way)} > [green]{host}[/]")
        console.print(tree)
        _print_cut(console, each.group.address, each.cut)


@command.command(name="rules")
@_options(*_places, _design, _merge, _failed, _json)
@click.option("--switch", help="Only this switch.")
@click.option("--counts", is_flag=True, help="How many rules each switch has, instead of the rules.")
@click.option("--openflow", is_flag=True, help="As OpenFlow 1.3, in the syntax of ovs-ofctl bundle, for switches of your own.")
@click.option("--difference", is_flag=True, help="What to remove and install when --failed fails, instead of all rules.")
def rules_command(
    topology: str,
    senders: int,
    receivers: int,
    seed: int,
    groups_file: str | None,
    group_count: int,
    design: str,
    merge: str,
    failed: tuple[str, ...],
    as_json: bool,
    switch: str | None,
    counts: bool,
    openflow: bool,
    difference: bool,
) -> None:
    """The rules of one switch or of all."""
    network = named(topology)
    if switch is not None and not network.level.get(switch):
        raise ConfigurationError(f"{switch!r} is not a switch of {topology}", key="--switch")
    controller = Controller(network, Design(design, merge, seed))
    controller.set_groups(_chosen_groups(network, groups_file, group_count, senders, receivers, seed))
    update = controller.fail(*failed)
    if openflow:
        _print_openflow(controller, [switch] if switch else sorted(controller.rules))
        return
    lines: list[dict[str, Any]]
    if difference:
        lines = [{"change": "remove", **row} for row in rules.rows(update.change.remove)]
        lines += [{"change": "install", **row} for row in rules.rows(update.change.install)]
    elif counts:
        lines = [{"switch": name, "rules": len(entries)} for name, entries in sorted(controller.rules.items())]
    else:
        lines = list(rules.rows(dict(sorted(controller.rules.items()))))
    lines = [line for line in lines if switch in (None, line["switch"])]
    _print_rows([flat_rule(line) for line in lines] if not as_json else lines, as_json)
    if not as_json:
        for address, cut in controller.cut.items():
            _print_cut(Console(), address, cut)


@command.command(name="verify")
@_options(*_places, _merge, _failed, _json)
@click.option("--design", "designs", type=CommaSeparated(str, DESIGNS), default="all", show_default=True)
@click.option("--rules", "rules_file", type=click.Path(), help="Check these rules (as `rules --json` prints them) instead.")
def verify_command(
    topology: str,
    senders: int,
    receivers: int,
    seed: int,
    groups_file: str | None,
    group_count: int,
    designs: tuple[str, ...],
    merge: str,
    failed: tuple[str, ...],
    as_json: bool,
    rules_file: str | None,
) -> None:
    """Follow a packet from every sender of every group: one copy to each member, no loops, and what the design promises.

    With --senders 0, every host is a sender. Exit status 1 if anything is wrong.
    """
    network = named(topology)
    everyone = senders == 0 and groups_file is None
    chosen = _chosen_groups(network, groups_file, group_count, senders or 1, receivers, seed)
    if everyone:
        chosen = tuple(msgspec.structs.replace(group, senders=()) for group in chosen)
    lines: list[dict[str, Any]] = []
    wrong: list[Violation] = []
    for name in designs:
        controller = Controller(network, Design(name, merge, seed))
        controller.set_groups(chosen)
        controller.fail(*failed)
        table = _read_rules(rules_file) if rules_file else controller.rules
        verdict = verify(network, table, chosen, controller.design, controller.failed, controller.cut)
        wrong += verdict.violations
        line: dict[str, Any] = {"design": name, "merge": controller.design.merges, "groups": len(chosen), "checked": verdict.checked}
        line |= {"rules": sum(map(len, table.values())), "most_on_a_switch": max(map(len, table.values()), default=0)}
        line |= {"cut": sum(len(members) for cut in controller.cut.values() for members in cut.values())}
        line |= {"violations": [msgspec.to_builtins(violation) for violation in verdict.violations]}
        lines.append(line)
        if not as_json:
            for address, cut in controller.cut.items():
                _print_cut(Console(), address, cut)
    _print_rows(lines if as_json else [line | {"violations": len(line["violations"])} for line in lines], as_json)
    if not as_json:
        for violation in wrong[:20]:
            click.echo(f"{violation.kind}: group {violation.group}, sender {violation.sender or 'any'}: {violation.detail}")
    if wrong:
        raise SystemExit(1)


@command.command()
@_options(_topology, _senders, _receivers, _seed, _merge, _json)
@click.option("--design", "designs", type=CommaSeparated(str, DESIGNS), default="all", show_default=True)
@click.option("--load", "loads", type=CommaSeparated(float), default="0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9", show_default=True)
@click.option("--rate", default=10_000.0, show_default=True, help="Messages a second, of all senders together.")
@click.option("--messages", default=5_000, show_default=True, help="Messages of all senders together, in each run.")
@click.option("--message-bytes", default=128, show_default=True, help="Size of a message, frame included.")
@click.option("--seeds", default=1, show_default=True, help="Runs a row: this many seeds, counted from --seed.")
@click.option("--bursts", type=click.Choice(BURSTS), default="onoff", show_default=True, help="How other traffic comes.")
@click.option("--burst-packets", default=16.0, show_default=True, help="Mean packets in a burst of onoff.")
@click.option("--burst-gbps", type=float, help="Rate within a burst; that of a host's link if not given.")
@click.option("--jitter-us", default=0.0, show_default=True, help="Mean jitter of each host's stack, exponential.")
@click.option("--workers", default=os.cpu_count() or 1, show_default="all cores", help="Processes.")
@click.option("--dask", help="Run on the Dask cluster whose scheduler is at this address.")
@click.option("--plot", type=click.Path(), help="Draw reorder rate against load into this file.")
def reorder(
    designs: tuple[str, ...],
    loads: tuple[float, ...],
    seeds: int,
    as_json: bool,
    workers: int,
    dask: str | None,
    plot: str | None,
    **base: Any,
) -> None:
    """How many messages receivers get in different orders, by design and load.

    Senders and receivers are placed at random over the network, receivers in racks of their own as far as there are racks.
    """
    if seeds < 1 or workers < 1 or not loads or not designs:
        raise ConfigurationError("--seeds and --workers are 1 or more, --load and --design not empty", key="reorder")
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
            outcomes = _advancing(bench.sweep(runs, min(workers, len(runs)), dask), lambda: progress.advance(bar))
            for line in _rows(outcomes):
                if line["design"] in designs:
                    lines.append(line)
                    if as_json:
                        _print_json(line)
    finally:
        if not as_json:
            _print_rows([flat_row(line) for line in lines], as_json)
    if plot:
        from stretto.network.drawing import draw_reordering

        _writing(plot, lambda: draw_reordering(lines, _caption(setting, seeds), plot))


@command.command()
@_options(_json)
@click.option("--messages", default=2_000, show_default=True, help="Messages a run; more take longer.")
def benchmark(messages: int, as_json: bool) -> None:
    """How many packet-hops (packets through simulated queues, other traffic included) the model does in a second on one core."""
    if as_json:
        for line in bench.benchmark(messages):
            _print_json(line)
    else:
        _print_rows(list(bench.benchmark(messages)), as_json)


def _print_openflow(controller: Controller, switches: Sequence[str]) -> None:
    """Only plain multicast can need hosts' addresses: those that their names are, else those of a testbed."""
    from stretto.testbed.flow_text import bundle_lines
    from stretto.testbed.flows import table_of
    from stretto.testbed.plan import Plan

    plan = Plan(controller.topology)
    addresses = {host: host if is_ipv4(host) else plan.address(host) for host in controller.topology.hosts}
    for switch in switches:
        click.echo(f"# {switch}")
        for line in bundle_lines(table_of(controller.rules.get(switch, ()), addresses, {})):
            click.echo(line)


def _advancing(outcomes: Iterator[tuple[Outcome, float]], advance: Callable[[], None]) -> Iterator[tuple[Outcome, float]]:
    for outcome in outcomes:
        advance()
        yield outcome


def _rows(outcomes: Iterator[tuple[Outcome, float]]) -> Iterator[dict[str, Any]]:
    """One row for all seeds of a design at a load; the outcomes come in the order of `experiment.settings`."""
    plain: list[Outcome] = []
    for (design, _), several in groupby(outcomes, key=lambda pair: (pair[0].setting.design, pair[0].setting.load)):
        runs, seconds = zip(*several, strict=True)
        if design == "plain":
            plain = list(runs)
        yield experiment.row(runs, plain, sum(seconds))


def _caption(setting: Setting, seeds: int) -> str:
    peak = "a host's rate" if setting.burst_gbps is None else f"{setting.burst_gbps:g} Gbit/s"
    bursts = f"onoff, bursts of {setting.burst_packets:g} packets at {peak}" if setting.bursts == "onoff" else setting.bursts
    several = f"seeds {setting.seed} to {setting.seed + seeds - 1}" if seeds > 1 else f"seed {setting.seed}"
    return (
        f"{setting.topology}: {setting.rate:g} messages/s of {setting.message_bytes} bytes, {setting.senders} senders, "
        f"{setting.receivers} receivers in racks of their own, merge {setting.merge},\nother traffic {bursts}, "
        f"host jitter {setting.jitter_us:g} us, {setting.messages} messages a run, {several}"
    )


def _chosen_groups(network: Topology, file: str | None, count: int, senders: int, receivers: int, seed: int) -> tuple[Group, ...]:
    if file is not None:
        return groups.load(file, network)
    if not 1 <= count <= 60_000:
        raise ConfigurationError(f"{count} is not a number of groups; 1 to 60000", key="--group-count")
    return tuple(groups.place(network, senders, receivers, seed, index) for index in range(count))


def _read_rules(file: str) -> rules.Rules:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}", file=file) from None
    table: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = msgspec.json.decode(line, type=dict[str, Any])
            rules.from_rows([row])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"is not a rule: {error}", file=file, key=f"line {number}") from None
        table.append(row)
    return rules.from_rows(table)


def _write(file: str, text: str) -> None:
    _writing(file, lambda: Path(file).write_text(text, encoding="utf-8"))


def _writing(file: str, write: Callable[[], Any]) -> None:
    try:
        write()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot be written: {error}", file=file) from None


def _print_json(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _print_rows(lines: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for line in lines:
            _print_json(line)
        return
    print_table(lines)


def _print_cut(console: Console, address: str, cut: dict[str, tuple[str, ...]]) -> None:
    """Say which members cannot be reached, those of most senders first."""
    for members, senders in groupby(sorted(cut, key=lambda sender: cut[sender]), key=lambda sender: cut[sender]):
        names = list(senders)
        who = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        console.print(f"[red]group {address}: no way from {who} to {', '.join(members)}[/]")


def flat_rule(line: dict[str, Any]) -> dict[str, Any]:
    """A row of rules in the columns of a table."""
    if "match" not in line:
        return line
    match: dict[str, Any] = {"in_port": "any", "label": "any", "sender": "any"} | line["match"]
    first = {key: line[key] for key in ("change", "switch") if key in line}
    rest = {"out_ports": " ".join(map(str, line["out_ports"])), "set_label": line["set_label"], "queue": line["queue"]}
    return first | {"group": match.pop("group")} | match | rest


def flat_row(line: dict[str, Any]) -> dict[str, Any]:
    """A row of `reorder` in the columns that fit a terminal."""
    flat = {key: line[key] for key in ("design", "merge", "load")}
    for key in ("overtaken", "pairwise", "lis", "loss"):
        interval = f" ({line[key + '_low']:.2g}-{line[key + '_high']:.2g})" if f"{key}_low" in line else ""
        flat[key] = f"{line[key]:.3g}{interval}"
    for key in ("latency_us", "spread_us", "quorum_added_us"):
        flat[key] = " / ".join("-" if value is None else f"{value:g}" for value in line[key].values())
    return flat | {"seconds": line["seconds"]}


if __name__ == "__main__":
    command()
