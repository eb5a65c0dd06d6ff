"""`stretto testbed down`: remove a testbed."""

from __future__ import annotations

import click

from stretto.cli.testbed.options import name_option


@click.command()
@name_option
def command(name: str) -> None:
    """Remove a testbed, or what a crash has left of it."""
    from stretto.testbed import fabric

    click.echo(f"testbed {name} is down" if fabric.down(name) else f"there was no testbed {name}")
