"""Forwarding rules as data, for real switches and for the packet-level model.

A rule matches a packet by its group and, if given, by the port of arrival, the label and the sender. It sends a copy through each of its
ports, in one of two queues, and may change the label. The first matching rule decides, and a packet without a matching rule is
dropped. A packet leaves its sender with label 0.

A label is a small number in the packet. A switch may use any header field for it that it can match and rewrite.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from stretto.core.errors import ConfigurationError

UNLABELLED = 0
SHARED = "shared"
PRIORITY = "priority"


class Match(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The condition of a rule. None matches anything."""

    group: str
    in_port: int | None = None
    label: int | None = None
    sender: str | None = None

    def accepts(self, group: str, in_port: int, label: int, sender: str) -> bool:
        """Whether a packet matches."""
        return group == self.group and self.in_port in (None, in_port) and self.label in (None, label) and self.sender in (None, sender)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sends copies to `out_ports` (the port of arrival may be one of them) through `queue`, with label `set_label` unless that is None."""

    match: Match
    out_ports: tuple[int, ...]
    set_label: int | None = None
    queue: str = SHARED


Rules: TypeAlias = Mapping[str, tuple[Rule, ...]]
"""The rules of each switch, in the order in which they are tried. Switches without rules may be left out."""


def lookup(rules: Rules, switch: str, group: str, in_port: int, label: int, sender: str) -> Rule | None:
    """The rule that applies to a packet; None if the packet is dropped."""
    return next((rule for rule in rules.get(switch, ()) if rule.match.accepts(group, in_port, label, sender)), None)


def union(parts: Iterable[Rules]) -> dict[str, tuple[Rule, ...]]:
    """The rules of several groups in one table. Rules of different groups never match the same packet, so their order is free."""
    merged: dict[str, list[Rule]] = {}
    for part in parts:
        for switch, rules in part.items():
            merged.setdefault(switch, []).extend(rules)
    return {switch: tuple(rules) for switch, rules in merged.items()}


class Difference(msgspec.Struct, frozen=True):
    """The difference between two tables: first remove, then install. A rule with a changed action is both removed and installed."""

    remove: dict[str, tuple[Rule, ...]]
    install: dict[str, tuple[Rule, ...]]

    @property
    def size(self) -> int:
        """The number of rules that are removed or installed."""
        return sum(map(len, (*self.remove.values(), *self.install.values())))


def difference(old: Rules, new: Rules) -> Difference:
    """The changes on the switches that turn `old` into `new`."""
    return Difference(_without(old, new), _without(new, old))


def _without(these: Rules, those: Rules) -> dict[str, tuple[Rule, ...]]:
    rest: dict[str, tuple[Rule, ...]] = {}
    for switch, rules in these.items():
        known = set(those.get(switch, ()))
        if left := tuple(rule for rule in rules if rule not in known):
            rest[switch] = left
    return rest


def rows(rules: Rules) -> Iterator[dict[str, Any]]:
    """One plain dictionary per rule, `{"switch": ..., "match": {...}, "out_ports": [...], "set_label": ..., "queue": ...}`."""
    for switch in rules:
        for rule in rules[switch]:
            yield {"switch": switch, **msgspec.to_builtins(rule)}


def from_rows(data: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Rule, ...]]:
    """The inverse of `rows`. Raises msgspec.ValidationError if a row is not a rule."""
    table: dict[str, list[Rule]] = {}
    for row in data:
        fields = dict(row)
        table.setdefault(str(fields.pop("switch")), []).append(msgspec.convert(fields, Rule))
    return {switch: tuple(rules) for switch, rules in table.items()}


def load(file: Path) -> dict[str, tuple[Rule, ...]]:
    """Read rules, one row a line as JSON. Raises ConfigurationError with the file, the line and the reason."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}", file=file) from None
    table: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = msgspec.json.decode(line, type=dict[str, Any])
            from_rows([row])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"is not a rule: {error}", file=file, key=f"line {number}") from None
        table.append(row)
    return from_rows(table)
