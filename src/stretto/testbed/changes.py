"""The order in which flows are replaced while packets travel.

There are three steps. Each is done on all switches at once, and the next begins when all have confirmed:

    1  add the new flows inside the network; no packet meets them yet, except on paths that existed before
    2  add, change and delete flows at the ports of hosts; from now on packets take the new paths, which are complete
    3  delete the old flows inside the network; packets on the old paths have arrived

A receiver whose path stays the same therefore loses nothing. A receiver that gets a new path is served over the old one until the new one
is complete. While switches differ, a packet may meet old and new rules, but it cannot loop: under one design each rule leads up or down,
and a rule that leads down is followed only by such rules (the label distinguishes them, under plain the port of arrival). Two designs
interpret labels differently, so when the design changes, all old flows are deleted first (steps 2 and 3), and messages in transit are lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from stretto.testbed.flows import Table
from stretto.testbed.openflow import GROUP_ADD, GROUP_DELETE, GROUP_MODIFY, IN_PORT, Field, Flow, FlowMod, GroupMod, Message


def steps(installed: Table, wanted: Table, host_ports: Collection[int]) -> tuple[list[Message], ...]:
    """The messages for a switch in each step. `host_ports` are its ports to hosts."""
    entrances = {port.to_bytes(4, "big") for port in host_ports}
    new = [wanted.flows[key] for key in wanted.flows if installed.flows.get(key) != wanted.flows[key]]
    gone = [flow for key, (flow, _) in installed.flows.items() if key not in wanted.flows]
    groups = [group for number, group in wanted.groups.items() if installed.groups.get(number) != group]
    inside = [entry for entry in new if not _enters(entry[0], entrances)]
    hiding = [flow for flow in gone if not _enters(flow, entrances) and any(_hides(flow, other) for other, _ in inside)]
    first: list[Message] = [GroupMod(group, GROUP_MODIFY if group.number in installed.groups else GROUP_ADD) for group in groups]
    first += [FlowMod(flow, delete=True) for flow in hiding]
    first += [FlowMod(flow, cookie=cookie) for flow, cookie in inside]
    second: list[Message] = [FlowMod(flow, delete=True) for flow in gone if _enters(flow, entrances)]
    second += [FlowMod(flow, cookie=cookie) for flow, cookie in new if _enters(flow, entrances)]
    third: list[Message] = [FlowMod(flow, delete=True) for flow in gone if not _enters(flow, entrances) and flow not in hiding]
    third += [GroupMod(group, GROUP_DELETE) for number, group in installed.groups.items() if number not in wanted.groups]
    return first, second, third


def applied(table: Table, messages: Iterable[Message]) -> Table:
    """The table of a switch that held `table` after it has processed the messages."""
    flows, groups = dict(table.flows), dict(table.groups)
    for message in messages:
        match message:
            case FlowMod(flow, delete=True):
                flows.pop(flow.key, None)
            case FlowMod(flow, cookie=cookie):
                flows[flow.key] = flow, cookie
            case GroupMod(group, command) if command == GROUP_DELETE:
                groups.pop(group.number, None)
            case GroupMod(group):
                groups[group.number] = group
            case _:
                pass
    return Table(flows, groups)


def _enters(flow: Flow, entrances: Collection[bytes]) -> bool:
    """Whether the flow matches packets that arrive from a host."""
    return any(field.kind == IN_PORT and field.value in entrances for field in flow.match)


def _hides(old: Flow, new: Flow) -> bool:
    """Whether the old flow could match packets that are meant for the new one."""
    return old.table == new.table and old.priority >= new.priority and _overlap(old.match, new.match)


def _overlap(one: Iterable[Field], other: Iterable[Field]) -> bool:
    fields = {field.kind: field for field in one}
    return all(_agree(fields[field.kind], field) for field in other if field.kind in fields)


def _agree(one: Field, other: Field) -> bool:
    mask = _number(one.mask or b"\xff" * len(one.value)) & _number(other.mask or b"\xff" * len(other.value))
    return (_number(one.value) ^ _number(other.value)) & mask == 0


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
