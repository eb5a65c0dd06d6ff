"""The controller: it keeps the groups and the failures, and computes what to change on the switches when either changes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.network.designs import Design, GroupRules, rules_for
from stretto.network.groups import Group
from stretto.network.routes import Failed, Routes
from stretto.network.rules import Difference, Rule, difference, union
from stretto.network.topology import Topology


class Update(msgspec.Struct, frozen=True):
    """The consequences of a change.

    `change` has the rules to remove and install on the live switches; `moved` has the old and new roots of each group whose roots changed;
    `cut` has, for each group and sender, all members that are unreachable now.
    """

    change: Difference
    moved: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    cut: dict[str, dict[str, tuple[str, ...]]]


class Controller:
    """Keeps the rules of all groups of one network under one design.

    Each call that changes something returns an `Update`. A switch that comes back starts without rules.
    """

    def __init__(self, topology: Topology, design: Design) -> None:
        self.topology = topology
        self.design = design
        self.groups: dict[str, Group] = {}
        self.failed = Failed(topology)
        self._compiled: dict[str, GroupRules] = {}
        self._routes = Routes(topology, self.failed)

    @property
    def rules(self) -> dict[str, tuple[Rule, ...]]:
        """The rules of all groups, as they are on the switches."""
        return union(compiled.rules for compiled in self._compiled.values())

    @property
    def cut(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """For each group and sender, the unreachable members. Groups and senders without any are left out."""
        return {address: compiled.cut for address, compiled in self._compiled.items() if compiled.cut}

    def roots(self, address: str) -> tuple[str, ...]:
        """The roots that a group's messages pass."""
        return self._compiled[address].roots

    def set_groups(self, groups: Iterable[Group]) -> Update:
        """Create groups, or change their members and senders. Raises ConfigurationError for an invalid group."""
        changed = [group.validate(self.topology) for group in groups]
        before = self._compiled
        self.groups |= {group.address: group for group in changed}
        self._compiled = before | {group.address: self._compile(group) for group in changed}
        return self._update(before)

    def remove_group(self, address: str) -> Update:
        """Remove a group. Raises ConfigurationError if there is no group with this address."""
        self._group(address)
        before = self._compiled
        del self.groups[address]
        self._compiled = {other: compiled for other, compiled in before.items() if other != address}
        return self._update(before)

    def join(self, address: str, host: str) -> Update:
        """Add a host to a group. Raises ConfigurationError if it is a member already, or is not a host."""
        group = self._group(address)
        return self.set_groups([msgspec.structs.replace(group, members=(*group.members, host))])

    def leave(self, address: str, host: str) -> Update:
        """Remove a host from a group. Raises ConfigurationError if it is not a member, or is the last one."""
        group = self._group(address)
        if host not in group.members:
            raise ConfigurationError(f"{host!r} is not a member of {address}", key="group.members")
        return self.set_groups([msgspec.structs.replace(group, members=tuple(m for m in group.members if m != host))])

    def fail(self, *elements: str) -> Update:
        """Mark switches, links and hosts as failed (named as in `routes.Failed`). Raises ConfigurationError if one does not exist."""
        return self._set_failed(self.failed.elements | set(elements))

    def repair(self, *elements: str) -> Update:
        """Mark switches, links and hosts as working again."""
        return self._set_failed(self.failed.elements - set(elements))

    def _group(self, address: str) -> Group:
        if address not in self.groups:
            raise ConfigurationError(f"there is no group {address!r}", key="group.address")
        return self.groups[address]

    def _compile(self, group: Group) -> GroupRules:
        return rules_for(self.topology, group, self.design, self._routes)

    def _set_failed(self, elements: Iterable[str]) -> Update:
        self.failed = Failed(self.topology, elements)
        self._routes = Routes(self.topology, self.failed)
        before = self._compiled
        self._compiled = {address: self._compile(group) for address, group in self.groups.items()}
        return self._update(before)

    def _update(self, before: dict[str, GroupRules]) -> Update:
        change = difference(union(compiled.rules for compiled in before.values()), self.rules)
        alive = Difference({s: rules for s, rules in change.remove.items() if s not in self.failed.switches}, change.install)
        pairs = {address: (before[address].roots, self._compiled[address].roots) for address in self._compiled if address in before}
        return Update(alive, {address: pair for address, pair in pairs.items() if pair[0] != pair[1]}, self.cut)
