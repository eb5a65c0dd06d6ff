"""`stretto network verify`: do the rules of a design do what the design promises?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from stretto.cli.network.options import chosen_groups, designs_option, failed_option, merge_option, placement_options
from stretto.cli.network.tables import print_cut
from stretto.cli.options import json_option
from stretto.cli.output import print_rows
from stretto.network import rules
from stretto.network.controller import Controller
from stretto.network.designs import Design
from stretto.network.topologies import named
from stretto.network.verification import Violation, verify

_SHOWN = 20
"""How many violations are printed for people."""


@click.command()
@placement_options
@merge_option
@failed_option
@json_option
@designs_option
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path),
    help="Check these rules (as `rules --json` prints them) instead of compiled ones.",
)
def command(
    topology: str,
    senders: int,
    receivers: int,
    seed: int,
    groups_file: Path | None,
    group_count: int,
    designs: tuple[str, ...],
    merge: str,
    failed: tuple[str, ...],
    as_json: bool,
    rules_file: Path | None,
) -> int:
    """Follow a packet from every sender of every group: one copy to each member, no loops, and what the design promises.

    With --senders 0, every host is a sender. Exit status 1 if anything is wrong.
    """
    network = named(topology)
    chosen = chosen_groups(network, groups_file, group_count, senders or 1, receivers, seed)
    if senders == 0 and groups_file is None:
        chosen = tuple(msgspec.structs.replace(group, senders=()) for group in chosen)
    lines: list[dict[str, Any]] = []
    wrong: list[Violation] = []
    for name in designs:
        controller = Controller(network, Design(name, merge, seed))
        controller.set_groups(chosen)
        controller.fail(*failed)
        table = controller.rules if rules_file is None else rules.load(rules_file)
        verdict = verify(network, table, chosen, controller.design, controller.failed, controller.cut)
        wrong += verdict.violations
        line: dict[str, Any] = {"design": name, "merge": controller.design.merges, "groups": len(chosen), "checked": verdict.checked}
        line |= {"rules": sum(map(len, table.values())), "most_on_a_switch": max(map(len, table.values()), default=0)}
        line |= {"cut": sum(len(members) for cut in controller.cut.values() for members in cut.values())}
        line |= {"violations": [msgspec.to_builtins(violation) for violation in verdict.violations]}
        lines.append(line)
        if not as_json:
            for address, cut in controller.cut.items():
                print_cut(address, cut)
    print_rows(lines if as_json else [line | {"violations": len(line["violations"])} for line in lines], as_json)
    if not as_json:
        for violation in wrong[:_SHOWN]:
            click.echo(f"{violation.kind}: group {violation.group}, sender {violation.sender or 'any'}: {violation.detail}")
    return 1 if wrong else 0
