"""Translates rules to OpenFlow tables and back.

    group          ipv4_dst
    label          eth_src: 02:53:54:01:LL:LL; any other prefix means no label
    sender         ipv4_src
    queue          DSCP: 46 (expedited forwarding) for the priority queue, 0 for the other; every rule sets it, so hosts cannot
    out-ports      one: an output; several: a group of kind `all`, whose number has one bit for each port

The first matching rule decides. Of two rules that can match the same packet, the earlier one therefore gets the higher priority. The number
of priorities is minimal, so that a change of one rule leaves the flows of the others unchanged.

A switch sends a packet back through the port of arrival only if an action names that port explicitly. A rule whose copies may go back there
has an additional flow for each such port. Flows that match the sender are in a second table, and only packets that need it go there: Open
vSwitch caches flows by the fields that were examined, and keeps packets in order only within a cached flow.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.network.routes import weight
from stretto.network.rules import PRIORITY, SHARED, UNLABELLED, Match, Rule
from stretto.testbed.openflow import (
    ALL,
    ETH_SRC,
    ETH_TYPE,
    ETH_TYPE_IPV4,
    IN_PORT,
    IP_DSCP,
    IPV4_DST,
    IPV4_SRC,
    PORT_IN,
    Action,
    Field,
    Flow,
    FlowEntry,
    Group,
    Output,
    SetField,
    ToGroup,
)

HIGHEST_PORT = 31
"""The highest port number, because each port is a bit of a group's number."""
FIRST_TABLE, SENDER_TABLE = 0, 1
LOWEST_PRIORITY = 1_000
UNICAST_PRIORITY = 1
EXPEDITED = 46
_DSCP = {PRIORITY: EXPEDITED, SHARED: 0}
_QUEUES = {bytes([dscp]): queue for queue, dscp in _DSCP.items()}
_LABELLED, _HOSTS = b"\x02\x53\x54\x01", b"\x02\x53\x54\x00"
_IPV4 = Field(ETH_TYPE, ETH_TYPE_IPV4)


class Table(NamedTuple):
    """The content of a switch's tables: flows with their cookies by key, and groups by number."""

    flows: Mapping[tuple[int, int, tuple[Field, ...]], tuple[Flow, int]]
    groups: Mapping[int, Group]


EMPTY = Table({}, {})


def table_of(rules: Iterable[Rule], addresses: Mapping[str, str], unicast: Mapping[str, int]) -> Table:
    """The table that implements these rules.

    `addresses` are the IPv4 addresses of all hosts; `unicast` has the port towards each host. The cookie of a flow is the hash of its rule.
    Raises ConfigurationError if a port number is too high.
    """
    by_group: dict[str, list[Rule]] = {}
    for rule in rules:
        by_group.setdefault(rule.match.group, []).append(rule)
    flows = [flow for group in by_group.values() for flow in _group_flows(group, addresses)]
    flows += [_unicast_flow(addresses[host], port) for host, port in unicast.items()]
    ports = {rule.out_ports for group in by_group.values() for rule in group if len(rule.out_ports) > 1}
    return Table({flow.key: (flow, cookie) for flow, cookie in flows}, {group.number: group for group in map(_group, ports)})


def table_from(flows: Iterable[FlowEntry], groups: Iterable[Group]) -> Table:
    """The table made of the flows and groups that a switch reported."""
    return Table({entry.flow.key: (entry.flow, entry.cookie) for entry in flows}, {group.number: group for group in groups})


def rules_of(table: Table, hosts: Mapping[str, str]) -> tuple[Rule, ...]:
    """The multicast rules that a switch with this table obeys. `hosts` are host names by IPv4 address.

    Redundant rules are left out: for a table that `table_of` made from the rules of a design, the result is these rules, sorted by group
    and otherwise in the same order. Flows that are not rules (for unicast, or with fields or actions that no rule has) are ignored.
    """
    tables: dict[int, list[_Entry]] = {FIRST_TABLE: [], SENDER_TABLE: []}
    for flow, _ in sorted(table.flows.values(), key=lambda entry: -entry[0].priority):
        tables.setdefault(flow.table, []).extend(_entries_of(flow, table.groups, hosts))
    by_group: dict[str, list[Rule]] = {}
    for entry in tables[FIRST_TABLE]:
        by_group.setdefault(entry.match.group, []).extend(_obeyed(entry, tables[SENDER_TABLE]))
    return tuple(rule for _, rules in sorted(by_group.items()) for rule in _sorted(_needed(rules)))


class _Entry(NamedTuple):
    """A multicast flow in terms of rules: where its copies go and how they are changed, or that it leads to the sender table."""

    match: Match
    out_ports: tuple[int, ...]
    set_label: int | None = None
    queue: str = SHARED
    goto: bool = False

    @property
    def rule(self) -> Rule:
        return Rule(self.match, self.out_ports, self.set_label, self.queue)


def overlap(one: Match, other: Match) -> bool:
    """Whether a packet can match both."""
    pairs = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return all(a is None or b is None or a == b for a, b in pairs)


def _covers(wide: Match, narrow: Match) -> bool:
    """Whether all packets that match `narrow` match `wide`."""
    pairs = zip(msgspec.structs.astuple(wide), msgspec.structs.astuple(narrow), strict=True)
    return all(a is None or a == b for a, b in pairs)


def _both(one: Match, other: Match) -> Match:
    """The intersection of two matches that overlap."""
    first, second = msgspec.structs.astuple(one), msgspec.structs.astuple(other)
    return Match(*(b if a is None else a for a, b in zip(first, second, strict=True)))


# From rules to flows.


def _group_flows(rules: Sequence[Rule], addresses: Mapping[str, str]) -> Iterator[tuple[Flow, int]]:
    """The flows of one group's rules."""
    first: list[tuple[Match, Rule | None]] = []
    gotos: list[Match] = []
    behind: list[Rule] = []
    for rule in rules:
        if rule.match.sender is None:
            first.append((rule.match, rule))
        elif (anyone := msgspec.structs.replace(rule.match, sender=None)) not in gotos:
            gotos.append(anyone)
            first.append((anyone, None))
        if gotos:
            behind.append(rule)
    # A packet that was sent to the second table does not return, so every other rule that could match it must be there too.
    second = [(rule.match, rule) for rule in behind if any(overlap(rule.match, goto) for goto in gotos)]
    for table, entries in ((FIRST_TABLE, first), (SENDER_TABLE, second)):
        complete = list(_with_returns(entries))
        for level, (match, action) in zip(_levels([match for match, _ in complete]), complete, strict=True):
            key = (table, LOWEST_PRIORITY + level, _fields(match, addresses))
            if action is None:
                yield Flow(*key, goto=SENDER_TABLE), cookie_of(match)
            else:
                yield Flow(*key, _actions(match, action)), cookie_of(action)


def _with_returns(entries: Iterable[tuple[Match, Rule | None]]) -> Iterator[tuple[Match, Rule | None]]:
    """The entries, with an additional entry for each port of arrival through which a copy goes back."""
    for match, rule in entries:
        if rule is not None and match.in_port is None:
            for port in rule.out_ports:
                yield msgspec.structs.replace(match, in_port=port), rule
        yield match, rule


def _levels(matches: Sequence[Match]) -> list[int]:
    """For each match the lowest level above those of all later matches that it overlaps."""
    levels: list[int] = []
    for i, match in enumerate(reversed(matches)):
        below = zip(levels, reversed(matches[len(matches) - i :]), strict=True)
        levels.append(max((level + 1 for level, later in below if overlap(match, later)), default=0))
    return levels[::-1]


def _fields(match: Match, addresses: Mapping[str, str]) -> tuple[Field, ...]:
    fields = [_IPV4, Field(IPV4_DST, ipaddress.IPv4Address(match.group).packed)]
    if match.in_port is not None:
        fields.append(Field(IN_PORT, match.in_port.to_bytes(4, "big")))
    if match.sender is not None:
        fields.append(Field(IPV4_SRC, ipaddress.IPv4Address(addresses[match.sender]).packed))
    if match.label == UNLABELLED:
        fields.append(Field(ETH_SRC, _HOSTS + bytes(2), b"\xff" * 4 + bytes(2)))
    elif match.label is not None:
        fields.append(Field(ETH_SRC, _labelled(match.label)))
    return tuple(sorted(fields))


def _labelled(label: int) -> bytes:
    return (_LABELLED if label else _HOSTS) + label.to_bytes(2, "big")


def _actions(match: Match, rule: Rule) -> tuple[Action, ...]:
    actions: list[Action] = [] if rule.set_label is None else [SetField(Field(ETH_SRC, _labelled(rule.set_label)))]
    actions.append(SetField(Field(IP_DSCP, bytes([_DSCP[rule.queue]]))))
    if len(rule.out_ports) > 1:
        actions.append(ToGroup(group_number(rule.out_ports)))
    elif rule.out_ports and rule.out_ports[0] != match.in_port:
        actions.append(Output(rule.out_ports[0]))
    if match.in_port in rule.out_ports:
        actions.append(Output(PORT_IN))
    return tuple(actions)


def group_number(ports: Iterable[int]) -> int:
    """The number of the group that makes a copy for each of these ports. Raises ConfigurationError if a port number is too high."""
    for port in ports:
        if not 1 <= port <= HIGHEST_PORT:
            raise ConfigurationError(f"{port} is not a valid port of a switch; 1 to {HIGHEST_PORT}", key="port")
    return sum({1 << port - 1 for port in ports})


def _group(ports: tuple[int, ...]) -> Group:
    return Group(group_number(ports), tuple((Output(port),) for port in sorted(ports)), ALL)


def _unicast_flow(address: str, port: int) -> tuple[Flow, int]:
    match = tuple(sorted((_IPV4, Field(IPV4_DST, ipaddress.IPv4Address(address).packed))))
    return Flow(FIRST_TABLE, UNICAST_PRIORITY, match, (SetField(Field(IP_DSCP, bytes(1))), Output(port))), cookie_of(address)


def cookie_of(rule: object) -> int:
    """The cookie of all flows that were made for a rule (or for a unicast address)."""
    return weight(rule) >> 1  # OpenFlow reserves one value, whose first bit is 1


# From flows to rules.


def _entries_of(flow: Flow, groups: Mapping[int, Group], hosts: Mapping[str, str]) -> Iterator[_Entry]:
    """The entries of a flow, with one for each port of arrival that is treated differently; none if no rule can express the flow."""
    match = _match_of(flow.match, hosts)
    if match is None or flow.other:
        return
    if flow.goto is not None:
        if flow.goto == SENDER_TABLE and not flow.actions and flow.table == FIRST_TABLE:
            yield _Entry(match, (), goto=True)
        return
    entry = _effect(match, flow.actions, groups)
    if entry is None:
        return
    if match.in_port is not None:
        yield entry
        return
    for port in entry.out_ports:  # a packet that arrived at one of these is not sent back there
        arrived = msgspec.structs.replace(match, in_port=port)
        yield entry._replace(match=arrived, out_ports=tuple(out for out in entry.out_ports if out != port))
    yield entry


def _match_of(fields: Iterable[Field], hosts: Mapping[str, str]) -> Match | None:
    """The match of a flow as that of a rule; None if no rule can express it."""
    known = {field.kind: field for field in fields}
    if known.pop(ETH_TYPE, None) != _IPV4 or IPV4_DST not in known:
        return None
    match = Match("")
    for kind, (_, value, mask) in known.items():
        if kind == IPV4_DST and not mask and (group := ipaddress.IPv4Address(value)).is_multicast:
            match = msgspec.structs.replace(match, group=str(group))
        elif kind == IN_PORT and not mask:
            match = msgspec.structs.replace(match, in_port=int.from_bytes(value, "big"))
        elif kind == IPV4_SRC and not mask and (host := hosts.get(str(ipaddress.IPv4Address(value)))) is not None:
            match = msgspec.structs.replace(match, sender=host)
        elif kind == ETH_SRC and value.startswith(_LABELLED) and not mask:
            match = msgspec.structs.replace(match, label=int.from_bytes(value[4:], "big"))
        elif kind == ETH_SRC and value.startswith(_HOSTS) and mask == b"\xff" * 4 + bytes(2):
            match = msgspec.structs.replace(match, label=UNLABELLED)
        else:
            return None
    return match if match.group else None


def _effect(where: Match, actions: Iterable[Action], groups: Mapping[int, Group]) -> _Entry | None:
    """The effect of these actions as that of a rule; None if no rule can express it."""
    label, queue = None, None
    outputs: list[int] = []
    for action in actions:
        match action:
            case SetField(Field(kind, value, mask)) if kind == ETH_SRC and not mask and not outputs and value[:4] in (_LABELLED, _HOSTS):
                label = int.from_bytes(value[4:], "big")
            case SetField(Field(kind, value, mask)) if kind == IP_DSCP and not mask and not outputs and value in _QUEUES:
                queue = _QUEUES[value]
            case Output(port):
                outputs.append(port)
            case ToGroup(number) if (group := groups.get(number)) is not None and group.kind == ALL:
                for bucket in group.buckets:
                    match bucket:
                        case (Output(port),):
                            outputs.append(port)
                        case _:
                            return None
            case _:
                return None
    ports = [port for port in outputs if port not in (PORT_IN, where.in_port)]
    if PORT_IN in outputs:
        if where.in_port is None:
            return None
        ports.append(where.in_port)
    return None if queue is None else _Entry(where, tuple(sorted(ports)), label, queue)


def _obeyed(entry: _Entry, senders: Iterable[_Entry]) -> Iterator[Rule]:
    """The rules for the packets that an entry of the first table matches. None of these packets reaches its later entries."""
    if not entry.goto:
        yield entry.rule
        return
    for other in senders:
        if overlap(entry.match, other.match):
            yield other._replace(match=_both(entry.match, other.match)).rule
    yield Rule(entry.match, ())


def _needed(rules: Sequence[Rule]) -> list[Rule]:
    """The rules without redundant ones: those hidden by an earlier rule, and those that change nothing."""
    seen = [rule for i, rule in enumerate(rules) if not any(_covers(earlier.match, rule.match) for earlier in rules[:i])]
    needed: list[Rule] = []
    for rule in reversed(seen):
        later = next((other for other in reversed(needed) if overlap(rule.match, other.match)), None)
        if later is None:
            redundant = not rule.out_ports
        else:
            redundant = _covers(later.match, rule.match) and msgspec.structs.replace(later, match=rule.match) == rule
        if not redundant:
            needed.append(rule)
    return needed[::-1]


def _sorted(rules: Sequence[Rule]) -> list[Rule]:
    """The rules in a canonical order. Overlapping rules keep their order."""

    def order(pair: tuple[int, Rule]) -> tuple[int, int, int, str]:
        level, rule = pair
        match = rule.match
        return (-level, HIGHEST_PORT + 1 if match.in_port is None else match.in_port, match.label or 0, match.sender or "")

    return [rule for _, rule in sorted(zip(_levels([rule.match for rule in rules]), rules, strict=True), key=order)]
