"""`stretto testbed revive`: bring a switch or a link of a testbed back."""

from __future__ import annotations

import click

from stretto.cli.testbed.options import element_argument, name_option


@click.command()
@element_argument
@name_option
def command(element: str, name: str) -> None:
    """Bring a killed switch or link back."""
    from stretto.testbed.fabric import Fabric

    click.echo(f"{element} is back" if Fabric.existing(name).revive(element) else f"{element} was not killed")
