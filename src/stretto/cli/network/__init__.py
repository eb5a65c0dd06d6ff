"""`stretto network`: multicast designs on a data-centre network, their rules, and the order that they give."""

from __future__ import annotations

import click

from stretto.cli.lazy import LazyGroup

_COMMANDS = {
    "show": "A topology, and the paths of groups' messages under a design.",
    "rules": "The rules of one switch or of all.",
    "verify": "Follow a packet from every sender: does it do what the design promises?",
    "reorder": "How many messages receivers get in different orders, by design and load.",
    "benchmark": "How fast the model of the network is.",
}


@click.group(cls=LazyGroup, package="stretto.cli.network", summaries=_COMMANDS)
def command() -> None:
    """Multicast designs on a data-centre network: their rules, and how much order they give."""
