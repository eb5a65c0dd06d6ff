"""In which order flows are replaced while packets travel.

Three steps, and in each all switches at once; the next begins when all have confirmed:

    1  what is new inside of the network, on no packet's way yet unless the way there was there before
    2  what is new, changed or gone at the ports of hosts: from here on packets take the new ways, which are complete
    3  what is gone inside: packets on the old ways have arrived

So a receiver whose way stays loses nothing, and one that gets a new way is served by the old one until the new one is whole. While
switches differ, a packet may meet old and new rules. It goes round in no circle: under one design each rule leads up or leads down, and
after a rule that leads down come only such (in all but plain the label says which, in plain the port of arrival). Rules of two designs
read labels differently, so between designs everything old goes first (steps 2 and 3), and messages of that moment are lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from stretto.testbed.flows import Table
from stretto.testbed.openflow import GROUP_ADD, GROUP_DELETE, GROUP_MODIFY, IN_PORT, Field, Flow, FlowMod, GroupMod, Message


def steps(installed: Table, wanted: Table, host_ports: Collection[int]) -> tuple[list[Message], ...]:
    """What to send to a switch in each step; `host_ports` are those that hosts hang at."""
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
    """What a switch holds that held `table` and has done this."""
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
    """Whether it is for packets that a host sends."""
    return any(field.kind == IN_PORT and field.value in entrances for field in flow.match)


def _hides(old: Flow, new: Flow) -> bool:
    """Whether packets that are meant for the new flow might still meet the old one."""
    return old.table == new.table and old.priority >= new.priority and _overlap(old.match, new.match)


def _overlap(one: Iterable[Field], other: Iterable[Field]) -> bool:
    fields = {field.kind: field for field in one}
    return all(_agree(fields[field.kind], field) for field in other if field.kind in fields)


def _agree(one: Field, other: Field) -> bool:
    mask = _number(one.mask or b"\xff" * len(one.value)) & _number(other.mask or b"\xff" * len(other.value))
    return (_number(one.value) ^ _number(other.value)) & mask == 0


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
