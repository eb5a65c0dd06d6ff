"""`stretto network rules`: what the switches are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stretto.cli.network.options import chosen_groups, design_option, failed_option, merge_option, placement_options
from stretto.cli.network.tables import flat_rule, print_cut
from stretto.cli.options import json_option
from stretto.cli.output import print_rows
from stretto.core.errors import ConfigurationError
from stretto.network import rules
from stretto.network.controller import Controller
from stretto.network.designs import Design
from stretto.network.topologies import named


@click.command()
@placement_options
@design_option
@merge_option
@failed_option
@json_option
@click.option("--switch", help="Only this switch.")
@click.option("--counts", is_flag=True, help="How many rules each switch has, instead of the rules.")
@click.option("--openflow", is_flag=True, help="As OpenFlow 1.3, in the syntax of ovs-ofctl bundle, for switches of your own.")
@click.option("--difference", is_flag=True, help="What to remove and install when --failed fails, instead of all rules.")
def command(
    topology: str,
    senders: int,
    receivers: int,
    seed: int,
    groups_file: Path | None,
    group_count: int,
    design: str,
    merge: str,
    failed: tuple[str, ...],
    as_json: bool,
    switch: str | None,
    counts: bool,
    openflow: bool,
    difference: bool,
) -> None:
    """The rules of one switch or of all."""
    network = named(topology)
    if switch is not None and not network.level.get(switch):
        raise ConfigurationError(f"{switch!r} is not a switch of {topology}", key="--switch")
    controller = Controller(network, Design(design, merge, seed))
    controller.set_groups(chosen_groups(network, groups_file, group_count, senders, receivers, seed))
    update = controller.fail(*failed)
    if openflow:
        _print_openflow(controller, [switch] if switch else sorted(controller.rules))
        return
    lines: list[dict[str, Any]]
    if difference:
        lines = [{"change": "remove", **row} for row in rules.rows(update.change.remove)]
        lines += [{"change": "install", **row} for row in rules.rows(update.change.install)]
    elif counts:
        lines = [{"switch": name, "rules": len(entries)} for name, entries in sorted(controller.rules.items())]
    else:
        lines = list(rules.rows(dict(sorted(controller.rules.items()))))
    lines = [line for line in lines if switch in (None, line["switch"])]
    print_rows(lines if as_json or counts else [flat_rule(line) for line in lines], as_json)
    if not as_json:
        for address, cut in controller.cut.items():
            print_cut(address, cut)


def _print_openflow(controller: Controller, switches: list[str]) -> None:
    from stretto.testbed.flow_text import bundle_of

    lines = []
    for switch in switches:
        lines += [f"# {switch}", *bundle_of(controller, switch)]
    for line in lines:  # all of them or none, since a part of a network's rules is worse than none
        click.echo(line)
