"""`stretto testbed rules`: the rules for multicasts that the switches obey."""

from __future__ import annotations

import click

from stretto.cli.network.tables import flat_rule
from stretto.cli.options import json_option
from stretto.cli.output import print_rows
from stretto.cli.testbed.options import controller_of, name_option
from stretto.core.errors import ConfigurationError


@click.command()
@name_option
@click.option("--switch", help="Only this switch.")
@json_option
def command(name: str, switch: str | None, as_json: bool) -> None:
    """Show the rules for multicasts that the switches obey, read back from them, and how many packets each rule has matched."""
    fabric, client = controller_of(name)
    if switch is not None and switch not in fabric.plan.switches:
        raise ConfigurationError(f"{switch!r} is not a switch of testbed {name}", key="--switch")
    rows = [row for row in client.installed() if switch in (None, row["switch"])]
    print_rows(rows if as_json else [flat_rule(row) | {"packets": row["packets"]} for row in rows], as_json)
