"""`stretto testbed`: switches and hosts on this machine, on which multicast designs and protocols run unchanged."""

from __future__ import annotations

import click

from stretto.cli.lazy import LazyGroup

_COMMANDS = {
    "up": "Make a testbed, or bring back what is missing of it.",
    "status": "Show the state of a testbed.",
    "design": "Install a multicast design on the switches.",
    "rules": "Show the rules for multicasts that the switches obey.",
    "verify": "Do the switches hold what was compiled, and does it do what the design promises?",
    "kill": "Take the power from a switch, or cut a link.",
    "revive": "Bring a killed switch or link back.",
    "reorder": "How many messages receivers get in different orders, on real switches.",
    "failover": "Kill a root or a link that multicasts pass, and bring it back.",
    "bench": "Protocols over designs of multicast, on the switches of a testbed.",
    "down": "Remove a testbed.",
}


@click.group(cls=LazyGroup, package="stretto.cli.testbed", summaries=_COMMANDS, hidden=frozenset({"controller"}))
def command() -> None:
    """Network namespaces as hosts, Open vSwitch as switches, on this machine. Needs root.

    A testbed stays until it is taken down. It has namespaces of its own and touches nothing else.
    """
