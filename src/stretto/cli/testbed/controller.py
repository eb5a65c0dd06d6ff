"""`stretto testbed controller`: the process that installs the rules of a testbed's switches."""

from __future__ import annotations

import click

from stretto.cli.testbed.options import name_option


@click.command()
@name_option
def command(name: str) -> None:
    """Control the switches of a testbed until SIGTERM. `up` starts this."""
    import asyncio

    from stretto.testbed.fabric import Fabric
    from stretto.testbed.server import serve

    asyncio.run(serve(Fabric.existing(name).plan))
