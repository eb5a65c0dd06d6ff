"""`stretto testbed failover`: what the failure of a root or a link does to multicasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stretto.cli.network.options import design_option, members_options, merge_option, places_seed_option
from stretto.cli.options import json_option
from stretto.cli.output import print_json
from stretto.cli.testbed.options import ready, testbed_options

if TYPE_CHECKING:
    from stretto.testbed.failover import Interruption


@click.command()
@testbed_options
@click.option("--what", type=click.Choice(["root", "link"]), default="root", show_default=True, help="The group's root, or a link below.")
@design_option
@merge_option
@members_options(3)
@click.option("--rate", default=1_000.0, show_default=True, help="Messages a second, of all senders together.")
@places_seed_option
@json_option
def command(name: str, topology: str | None, scale: float | None, as_json: bool, **trial: Any) -> None:
    """Kill a root or a link that a group's multicasts pass, and bring it back: what receivers miss, and when the controller acted.

    Uses the testbed that is up, or one that is up for this run only.
    """
    from stretto.testbed.failover import Trial, interrupt

    checked = Trial(**trial).validate()
    with ready(name, topology, scale) as (fabric, controller, progress):
        interruptions = list(interrupt(fabric, controller, checked, lambda what: progress(what, None)))
    for interruption in interruptions:
        if as_json:
            print_json(interruption)
        else:
            _print(interruption)


def _print(event: Interruption) -> None:
    click.echo(f"{event.element} {event.event} (the command took {event.command_ms:.0f} ms)")
    if event.noticed_ms is None or event.computed_ms is None or event.confirmed_ms is None:
        click.echo("  the controller had nothing to do")
    else:
        click.echo(
            f"  the controller had noticed it after {event.noticed_ms:.1f} ms, and knew what to do after {event.computed_ms:.1f} ms; "
            f"all switches had confirmed after {event.confirmed_ms:.1f} ms"
            + (f", now over {', '.join(event.roots)}" if event.roots else "")
        )
    for receiver in event.receivers:
        click.echo(f"  {receiver.host}: {receiver.gap_ms:.1f} ms without a message of one sender, {receiver.lost} messages lost")
    click.echo(f"  out of order: {event.overtaken:.2%} until the switches had confirmed, {event.overtaken_after:.2%} after")
