"""Rules, and paths that are missing, as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import click

_NAMED = 4
"""How many senders a line names."""


def flat_rule(line: Mapping[str, Any]) -> dict[str, Any]:
    """A row of rules in the columns of a table."""
    match: dict[str, Any] = {"in_port": "any", "label": "any", "sender": "any"} | line["match"]
    first = {key: line[key] for key in ("change", "switch") if key in line}
    rest = {"out_ports": " ".join(map(str, line["out_ports"])), "set_label": line["set_label"], "queue": line["queue"]}
    return first | {"group": match.pop("group")} | match | rest


def print_cut(address: str, cut: Mapping[str, tuple[str, ...]]) -> None:
    """Say on stdout which members of a group no path leads to, by sender."""
    for members, senders in groupby(sorted(cut, key=lambda sender: cut[sender]), key=lambda sender: cut[sender]):
        names = list(senders)
        who = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        click.secho(f"group {address}: no path from {who} to {', '.join(members)}", fg="red")
