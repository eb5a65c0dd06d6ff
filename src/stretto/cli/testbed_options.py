"""Options of several commands of `stretto testbed`."""

from __future__ import annotations

import click

from stretto.cli.options import Command

name_option = click.option("--name", default="testbed", show_default=True, help="What the testbed is called, if there are several.")
"""Gives the command a parameter `name`."""


def testbed_options(command: Command) -> Command:
    """Gives a command that brings a testbed up if it is not the parameters `name`, `topology` and `scale`."""
    help_topology = "Its topology if it has to be brought up, named as in `stretto network`.  [default: testbed(pod_gbps=1)]"
    options = (
        click.option("--name", default="testbed", show_default=True, help="The testbed; if it is not up, it is for this run only."),
        click.option("--topology", help=help_topology),
        click.option("--scale", type=float, help="The factor on the rates of all links, likewise.  [default: 0.02]"),
    )
    for option in reversed(options):
        command = option(command)
    return command
