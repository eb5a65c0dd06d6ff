"""`stretto testbed up`: make a testbed."""

from __future__ import annotations

import click

from stretto.cli.output import progress_line
from stretto.cli.testbed.options import name_option

_OUTCOMES = {"made": "is up", "mended": "is complete again", "unchanged": "was up already"}


@click.command()
@click.argument("topology", required=False)
@name_option
@click.option("--scale", type=float, help="The factor on the rates of all links.  [default: 0.02]")
def command(topology: str | None, name: str, scale: float | None) -> None:
    """Make a testbed, or bring back what is missing of it.

    TOPOLOGY is named as in `stretto network`, or a .toml file. Without it: twelve switches in two pods and sixteen hosts. All links except
    those to the roots are then as fast as the hosts' links, so that messages can be reordered.
    """
    from stretto.network.topologies import named
    from stretto.testbed import probe
    from stretto.testbed.fabric import SCALE, Fabric
    from stretto.testbed.plan import Plan
    from stretto.testbed.session import TOPOLOGY

    fabric = Fabric(Plan(named(topology or TOPOLOGY), name), SCALE if scale is None else scale)
    with progress_line() as show:
        outcome = fabric.up(lambda what: show(what, None))
    sizes = f"{len(fabric.plan.switches)} switches, {len(fabric.plan.topology.hosts)} hosts"
    click.echo(f"testbed {name} {_OUTCOMES[outcome]}: {sizes}")
    if not probe.real_time():
        click.echo("switches run at ordinary priority, so their worst delays are longer: chrt (util-linux) cannot raise it here", err=True)
