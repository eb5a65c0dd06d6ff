"""`stretto testbed verify`: do the switches hold what was compiled for them?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stretto.cli.options import json_option
from stretto.cli.output import print_json
from stretto.cli.testbed.options import controller_of, name_option

if TYPE_CHECKING:
    from stretto.testbed.commands import Verification


@click.command()
@name_option
@json_option
def command(name: str, as_json: bool) -> int:
    """Read back what the switches hold. Is it what was compiled, and does it do with packets what the design promises?

    Exit status 1 if not. Switches that have failed are not asked.
    """
    verification = controller_of(name)[1].verify()
    if as_json:
        print_json(verification)
    else:
        _print(verification)
    return 0 if verification.good else 1


def _print(verification: Verification) -> None:
    compared = f"{verification.switches} switches, {verification.flows} flows, {verification.groups} flow groups"
    click.echo(f"{compared}: {len(verification.deviations)} deviate from what was compiled")
    click.echo(f"packets of {verification.checked} senders followed: {len(verification.violations)} violations of what the design promises")
    for name in verification.unreachable:
        click.echo(f"{name} has failed and was not asked")
    for found in verification.deviations:
        click.echo(f"{found.switch}: {found.kind}: {found.detail}")
    for violation in verification.violations:
        click.echo(f"{violation.kind}: group {violation.group}, sender {violation.sender or 'any'}: {violation.detail}")
