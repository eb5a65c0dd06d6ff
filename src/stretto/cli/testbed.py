"""`stretto testbed`: switches and hosts on this machine, to run multicast designs and protocols on as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stretto.cli.options import json_option, print_json, progress_line
from stretto.cli.testbed_bench import bench
from stretto.cli.testbed_control import design, rules, verify
from stretto.cli.testbed_options import name_option
from stretto.cli.testbed_traffic import failover, reorder

if TYPE_CHECKING:
    from stretto.testbed.fabric import Status


@click.group()
def command() -> None:
    """Network namespaces as hosts, Open vSwitch as switches, on this machine. Needs root.

    A testbed stays until it is taken down. It has namespaces of its own and touches nothing else.
    """


command.add_command(reorder)
command.add_command(failover)
command.add_command(bench)
command.add_command(design)
command.add_command(verify)
command.add_command(rules)


@command.command()
@click.argument("topology", required=False)
@name_option
@click.option("--scale", type=float, help="The factor on the rates of all links.  [default: 0.02]")
def up(topology: str | None, name: str, scale: float | None) -> None:
    """Make a testbed, or bring back what is missing of it.

    TOPOLOGY is named as in `stretto network`, or a .toml file. Without it: twelve switches in two pods, sixteen hosts, all links but
    those to the roots as fast as the hosts', so that the order of messages can suffer.
    """
    from stretto.network.topologies import named
    from stretto.testbed import probe
    from stretto.testbed.fabric import SCALE, Fabric
    from stretto.testbed.plan import Plan
    from stretto.testbed.session import TOPOLOGY

    fabric = Fabric(Plan(named(topology or TOPOLOGY), name), SCALE if scale is None else scale)
    with progress_line() as show:
        outcome = fabric.up(lambda what: show(what, None))
    what = {"made": "is up", "mended": "is complete again", "unchanged": "was up already"}[outcome]
    click.echo(f"testbed {name} {what}: {len(fabric.plan.switches)} switches, {len(fabric.plan.topology.hosts)} hosts")
    if not probe.real_time():
        click.echo("switches run at ordinary priority, and so with worse tails: chrt (util-linux) cannot raise it here", err=True)


@command.command()
@name_option
def down(name: str) -> None:
    """Remove a testbed, or what a crash has left of it."""
    from stretto.testbed import fabric

    click.echo(f"testbed {name} is down" if fabric.down(name) else f"there was no testbed {name}")


@command.command()
@name_option
@json_option
def status(name: str, as_json: bool) -> int:
    """Show the state of a testbed. Exit status 1 if something of it does not work, or if it is not there."""
    from stretto.testbed.fabric import Fabric

    state = Fabric.existing(name).status()
    if as_json:
        print_json(state)
    else:
        _print_status(state)
    return 0 if state.healthy else 1


@command.command()
@click.argument("what", metavar="WHAT")
@name_option
def kill(what: str, name: str) -> None:
    """Take the power from a switch, such as root0, or cut a link, such as root0-p0a0."""
    from stretto.testbed.fabric import Fabric

    click.echo(f"{what} is killed" if Fabric.existing(name).kill(what) else f"{what} was killed already")


@command.command()
@click.argument("what", metavar="WHAT")
@name_option
def revive(what: str, name: str) -> None:
    """Bring a killed switch or link back."""
    from stretto.testbed.fabric import Fabric

    click.echo(f"{what} is back" if Fabric.existing(name).revive(what) else f"{what} was not killed")


@command.command(hidden=True)
@name_option
def controller(name: str) -> None:
    """Rule the switches of a testbed until SIGTERM. `up` starts this."""
    import asyncio

    from stretto.testbed.fabric import Fabric
    from stretto.testbed.server import serve

    asyncio.run(serve(Fabric.existing(name).plan))


def _print_status(state: Status) -> None:
    from rich.console import Console
    from rich.table import Table

    complete = "" if state.complete else ", only half made: run up again, or down"
    click.echo(f"testbed {state.name}: {len(state.switches)} switches, {len(state.hosts)} hosts, scale {state.scale:g}{complete}")
    table = Table(box=None, header_style="bold")
    for title in ("switch", "state", "pid", "links that are not up"):
        table.add_column(title)
    for switch in state.switches:
        ill = [f"{'-'.join(cable.nodes)} {cable.state}" for cable in state.cables if switch.name in cable.nodes and cable.state != "up"]
        table.add_row(switch.name, switch.state, str(switch.pid or "-"), ", ".join(ill))
    table.add_row("controller", "down" if state.controller_pid is None else "up", str(state.controller_pid or "-"), "")
    Console().print(table)
