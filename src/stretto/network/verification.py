"""Checks rules by following packets, without a clock: one packet from each sender to each group, with every copy that is made of it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from stretto.network.designs import Design
from stretto.network.groups import Group
from stretto.network.routes import Failed
from stretto.network.rules import PRIORITY, UNLABELLED, Rule, Rules, lookup
from stretto.network.topology import Topology


class Violation(msgspec.Struct, frozen=True):
    """An error of the rules. `kind` is a short fixed phrase; `detail` says where it is."""

    kind: str
    group: str
    sender: str
    detail: str


class Walk(msgspec.Struct):
    """The walk of one sender's packet: the path of each copy that reached a host, all hops, and the faults.

    A path is the sequence of switches; a hop is a node, its port, and the queue there.
    """

    arrivals: list[tuple[str, tuple[str, ...]]] = []
    hops: list[tuple[str, int, str]] = []
    faults: list[tuple[str, str]] = []


def walk(topology: Topology, rules: Rules, group: str, sender: str, failed: Failed | None = None) -> Walk:
    """Follow one packet from `sender` to `group`. A loop is a fault, and is not followed further."""
    dead = failed.ports if failed else set()
    result = Walk()
    copies: list[tuple[str, int, int, str, tuple[str, ...], frozenset[tuple[str, int, int]]]]
    copies = [(sender, next(iter(topology.wires[sender])), UNLABELLED, "stack", (), frozenset())]
    while copies:
        node, port, label, queue, path, seen = copies.pop()
        result.hops.append((node, port, queue))
        wire = topology.wires[node].get(port)
        if wire is None or (node, port) in dead:
            result.faults.append(("no such port" if wire is None else "over a failed link", f"{node}:{port}"))
            continue
        if not topology.level[wire.peer]:
            result.arrivals.append((wire.peer, path))
            continue
        here = (wire.peer, wire.port, label)
        if here in seen:
            result.faults.append(("loop", " ".join((*path, wire.peer))))
            continue
        rule = lookup(rules, wire.peer, group, wire.port, label, sender)
        if rule is None:
            result.faults.append(("no rule", f"{wire.peer} for port {wire.port}, label {label}"))
            continue
        new_label = label if rule.set_label is None else rule.set_label
        copies += [(wire.peer, out, new_label, rule.queue, (*path, wire.peer), seen | {here}) for out in rule.out_ports]
    return result


class Verdict(msgspec.Struct):
    """The result of a check. `checked` counts pairs of a sender and a group."""

    checked: int
    violations: list[Violation]


def verify(
    topology: Topology,
    rules: Rules,
    groups: Iterable[Group],
    design: Design,
    failed: Failed | None = None,
    cut: dict[str, dict[str, tuple[str, ...]]] | None = None,
) -> Verdict:
    """Check the rules against the guarantees of the design, for every sender of every group.

    Each member gets exactly one copy, and no other host gets one. No copy loops, is dropped, or is sent to a port without a link. If the
    design guarantees it, all paths have equal length, one switch is on all of them, and packets use the priority queue. `cut` has the
    members (by group and sender) that are known to be unreachable; these must get no copy.
    """
    verdict = Verdict(0, [])
    by_group = _by_group(rules)
    for group in groups:
        own = by_group.get(group.address, {})
        lengths: dict[int, str] = {}
        common: set[str] | None = None
        for sender in group.sending(topology):
            out_of_reach = set((cut or {}).get(group.address, {}).get(sender, ()))
            if out_of_reach.issuperset(group.members):
                continue
            verdict.checked += 1
            walked = walk(topology, own, group.address, sender, failed)
            verdict.violations += [
                Violation(kind, group.address, sender, detail) for kind, detail in _faults(walked, group, design, out_of_reach)
            ]
            for member, path in walked.arrivals:
                lengths.setdefault(len(path), f"{sender} to {member}")
                common = set(path) if common is None else common & set(path)
        if design.equal_hops and len(lengths) > 1:
            detail = ", ".join(f"{hops} switches from {example}" for hops, example in sorted(lengths.items()))
            verdict.violations.append(Violation("unequal hop counts", group.address, "", detail))
        if design.one_switch and common is not None and not common:
            detail = "no switch is on the paths of all senders to all members"
            verdict.violations.append(Violation("no common switch", group.address, "", detail))
    return verdict


def _by_group(rules: Rules) -> dict[str, dict[str, tuple[Rule, ...]]]:
    tables: dict[str, dict[str, tuple[Rule, ...]]] = {}
    for switch, entries in rules.items():
        for rule in entries:
            table = tables.setdefault(rule.match.group, {})
            table[switch] = (*table.get(switch, ()), rule)
    return tables


def _faults(walked: Walk, group: Group, design: Design, out_of_reach: set[str]) -> list[tuple[str, str]]:
    faults = list(walked.faults)
    copies: dict[str, int] = {}
    for host, _ in walked.arrivals:
        copies[host] = copies.get(host, 0) + 1
    for member in group.members:
        due = 0 if member in out_of_reach else 1
        if copies.get(member, 0) != due:
            faults.append(("wrong number of copies", f"{member} gets {copies.get(member, 0)} instead of {due}"))
    faults += [("copy to a non-member", host) for host in copies if host not in group.members]
    if design.queue == PRIORITY:
        faults += [("not the first queue", f"{node}:{port}") for node, port, queue in walked.hops[1:] if queue != PRIORITY]
    return faults
