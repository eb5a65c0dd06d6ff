"""`stretto testbed design`: install a multicast design on the switches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stretto.cli.network.options import merge_option, places_seed_option
from stretto.cli.options import json_option
from stretto.cli.output import print_json
from stretto.cli.testbed.options import controller_of
from stretto.core.errors import ConfigurationError
from stretto.network.designs import DESIGNS

if TYPE_CHECKING:
    from stretto.network.groups import Group
    from stretto.network.topology import Topology

_MEMBERS = 3


@click.command()
@click.argument("name", metavar="DESIGN", type=click.Choice(DESIGNS))
@click.option("--name", "testbed", default="testbed", show_default=True, help="The testbed.")
@merge_option
@click.option("--groups", "groups_file", type=click.Path(path_type=Path), help="A TOML file of groups.  [default: the present groups]")
@click.option("--senders", type=int, help=f"Instead, place one group at random: how many hosts send.  [default: {_MEMBERS}]")
@click.option("--receivers", type=int, help=f"Likewise: how many hosts receive.  [default: {_MEMBERS}]")
@places_seed_option
@json_option
def command(
    name: str,
    testbed: str,
    merge: str,
    groups_file: Path | None,
    senders: int | None,
    receivers: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Install a design, for the present groups or for others. Traffic may flow meanwhile.

    DESIGN is plain, topology_aware, prioritised or serialised.
    """
    from stretto.network.designs import Design

    fabric, client = controller_of(testbed)
    groups = _groups(fabric.plan.topology, groups_file, senders, receivers, seed)
    if groups is not None:
        client.set_groups(())
    change = client.set_design(Design(name, merge, seed))
    if groups is not None:
        change = client.set_groups(groups)
    state = client.status()
    if as_json:
        print_json({"change": change, "state": state})
        return
    confirmed_ms = (change.confirmed_ns - change.noticed_ns) / 1e6
    groups_text = "one group" if len(state.groups) == 1 else f"{len(state.groups)} groups"
    click.echo(f"{name} is installed for {groups_text}: {change.flows} changes of flows, confirmed after {confirmed_ms:.1f} ms")
    for group in state.groups:
        over = f", over {', '.join(state.roots[group.address])}" if state.roots[group.address] else ""
        click.echo(f"{group.address}: {', '.join(group.senders) or 'any host'} to {', '.join(group.members)}{over}")
        for sender, members in state.cut.get(group.address, {}).items():
            click.echo(f"{group.address}: no path from {sender} to {', '.join(members)}", err=True)


def _groups(topology: Topology, file: Path | None, senders: int | None, receivers: int | None, seed: int) -> tuple[Group, ...] | None:
    """The groups that the options name; None if they name none."""
    from stretto.network.groups import load, place

    if senders is None and receivers is None:
        return None if file is None else load(file, topology)
    if file is not None:
        raise ConfigurationError("either a file of groups or numbers of senders and receivers", key="--groups")
    return (place(topology, _MEMBERS if senders is None else senders, _MEMBERS if receivers is None else receivers, seed),)
