"""`stretto network benchmark`: how fast the packet-level model is."""

from __future__ import annotations

from typing import Any

import click

from stretto.bench.network import benchmark
from stretto.cli.options import json_option
from stretto.cli.output import print_json, print_table


@click.command()
@json_option
@click.option("--messages", default=2_000, show_default=True, help="Messages a run; more take longer.")
def command(messages: int, as_json: bool) -> None:
    """How many packet-hops (packets through simulated queues, other traffic included) the model does in a second on one core."""
    lines: list[dict[str, Any]] = []
    for line in benchmark(messages):
        lines.append(line)
        if as_json:
            print_json(line)
    if not as_json:
        print_table(lines)
