"""`stretto testbed kill`: let a switch or a link of a testbed fail."""

from __future__ import annotations

import click

from stretto.cli.testbed.options import element_argument, name_option


@click.command()
@element_argument
@name_option
def command(element: str, name: str) -> None:
    """Take the power from a switch, such as root0, or cut a link, such as root0-p0a0."""
    from stretto.testbed.fabric import Fabric

    click.echo(f"{element} is killed" if Fabric.existing(name).kill(element) else f"{element} was killed already")
