"""`stretto testbed status`: the state of a testbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stretto.cli.options import json_option
from stretto.cli.output import print_json
from stretto.cli.testbed.options import name_option

if TYPE_CHECKING:
    from stretto.testbed.fabric import Status


@click.command()
@name_option
@json_option
def command(name: str, as_json: bool) -> int:
    """Show the state of a testbed. Exit status 1 if a part of it does not work, or if there is no such testbed."""
    from stretto.testbed.fabric import Fabric

    state = Fabric.existing(name).status()
    if as_json:
        print_json(state)
    else:
        _print(state)
    return 0 if state.healthy else 1


def _print(state: Status) -> None:
    from rich.console import Console
    from rich.table import Table

    complete = "" if state.complete else ", incomplete: run up again, or down"
    click.echo(f"testbed {state.name}: {len(state.switches)} switches, {len(state.hosts)} hosts, scale {state.scale:g}{complete}")
    table = Table(box=None, header_style="bold")
    for title in ("switch", "state", "pid", "links that are not up"):
        table.add_column(title)
    for switch in state.switches:
        faulty = [f"{'-'.join(cable.nodes)} {cable.state}" for cable in state.cables if switch.name in cable.nodes and cable.state != "up"]
        table.add_row(switch.name, switch.state, str(switch.pid or "-"), ", ".join(faulty))
    table.add_row("controller", "down" if state.controller_pid is None else "up", str(state.controller_pid or "-"), "")
    Console().print(table)
