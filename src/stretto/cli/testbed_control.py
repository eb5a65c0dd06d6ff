"""The commands of `stretto testbed` that talk to its controller: what the switches are to do, and what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stretto.cli.options import json_option, print_json, print_table
from stretto.cli.testbed_options import name_option
from stretto.core.errors import ConfigurationError
from stretto.network.designs import DESIGNS, MERGES

if TYPE_CHECKING:
    from stretto.network.groups import Group
    from stretto.network.topology import Topology
    from stretto.testbed.commands import ControllerClient, Verification
    from stretto.testbed.fabric import Fabric


@click.command()
@click.argument("name", metavar="DESIGN", type=click.Choice(DESIGNS))
@click.option("--name", "testbed", default="testbed", show_default=True, help="The testbed.")
@click.option("--merge", type=click.Choice(MERGES), default="per_root", show_default=True, help="Where ways over different roots meet.")
@click.option("--groups", "groups_file", type=click.Path(), help="A TOML file of groups, instead of those that there are.")
@click.option("--senders", type=int, help="Instead, place one group at random: how many hosts send.  [default: 3]")
@click.option("--receivers", type=int, help="Likewise: how many hosts receive.  [default: 3]")
@click.option("--seed", default=1, show_default=True, help="Decides places and hashes.")
@json_option
def design(
    name: str,
    testbed: str,
    merge: str,
    groups_file: str | None,
    senders: int | None,
    receivers: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Install a design, for the groups that there are or for others. Traffic may flow.

    DESIGN is plain, topology_aware, prioritised or serialised.
    """
    from stretto.network.designs import Design

    fabric, client = _controller(testbed)
    groups = _chosen_groups(fabric.plan.topology, groups_file, senders, receivers, seed)
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
            click.echo(f"{group.address}: no way from {sender} to {', '.join(members)}", err=True)


@click.command()
@name_option
@json_option
def verify(name: str, as_json: bool) -> int:
    """Read back what the switches hold: is it what was compiled, and does it do with packets what the design promises?

    Exit status 1 if not. Switches that have failed are not asked.
    """
    verification = _controller(name)[1].verify()
    if as_json:
        print_json(verification)
    else:
        _tell(verification)
    return 0 if verification.good else 1


@click.command()
@name_option
@click.option("--switch", help="Only this switch.")
@json_option
def rules(name: str, switch: str | None, as_json: bool) -> None:
    """Show the rules for multicasts that the switches obey, read back from them, and how many packets each has met."""
    from stretto.cli.network import flat_rule

    fabric, client = _controller(name)
    if switch is not None and switch not in fabric.plan.switches:
        raise ConfigurationError(f"{switch!r} is not a switch of testbed {name}", key="--switch")
    rows = [row for row in client.installed() if switch in (None, row["switch"])]
    if as_json:
        for row in rows:
            print_json(row)
    else:
        print_table([flat_rule(row) | {"packets": row["packets"]} for row in rows])


def _controller(name: str) -> tuple[Fabric, ControllerClient]:
    from stretto.testbed.commands import ControllerClient
    from stretto.testbed.fabric import Fabric

    fabric = Fabric.existing(name)
    return fabric, ControllerClient(fabric.plan.controller_socket)


def _chosen_groups(topology: Topology, file: str | None, senders: int | None, receivers: int | None, seed: int) -> tuple[Group, ...] | None:
    """The groups that the command line names, if it does."""
    from stretto.network.groups import load, place

    if senders is None and receivers is None:
        return None if file is None else load(file, topology)
    if file is not None:
        raise ConfigurationError("either a file of groups or numbers of senders and receivers", key="--groups")
    return (place(topology, 3 if senders is None else senders, 3 if receivers is None else receivers, seed),)


def _tell(verification: Verification) -> None:
    compared = f"{verification.switches} switches, {verification.flows} flows, {verification.groups} flow groups"
    click.echo(f"{compared}: {len(verification.deviations)} deviate from what was compiled")
    click.echo(f"packets of {verification.checked} senders followed: {len(verification.violations)} violations of what the design promises")
    for name in verification.unreachable:
        click.echo(f"{name} has failed and was not asked")
    for found in verification.deviations:
        click.echo(f"{found.switch}: {found.kind}: {found.detail}")
    for violation in verification.violations:
        click.echo(f"{violation.kind}: group {violation.group}, sender {violation.sender or 'any'}: {violation.detail}")
