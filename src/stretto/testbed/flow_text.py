"""Flows and groups in the text format of ovs-ofctl(8), for the user's own switches."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from stretto.core.config import is_ipv4
from stretto.network.controller import Controller
from stretto.testbed.flows import Table, table_of
from stretto.testbed.openflow import (
    ETH_SRC,
    ETH_TYPE,
    IN_PORT,
    IP_DSCP,
    IPV4_DST,
    IPV4_SRC,
    PORT_IN,
    Action,
    Field,
    Output,
    SetField,
    ToGroup,
)
from stretto.testbed.plan import Plan

_MATCHED = {IN_PORT: "in_port", ETH_SRC: "dl_src", IPV4_SRC: "nw_src", IPV4_DST: "nw_dst"}
_SET = {ETH_SRC: "eth_src", IP_DSCP: "ip_dscp"}


def bundle_of(controller: Controller, switch: str) -> Iterator[str]:
    """The lines for one switch of a controller.

    Only plain multicast can need hosts' addresses. A host that is named by an IPv4 address has it, any other has its address in a testbed.
    """
    plan = Plan(controller.topology)
    addresses = {host: host if is_ipv4(host) else plan.address(host) for host in controller.topology.hosts}
    return bundle_lines(table_of(controller.rules.get(switch, ()), addresses, {}))


def bundle_lines(table: Table) -> Iterator[str]:
    """The lines for `ovs-ofctl bundle`: groups before the flows that use them, flows by table and descending priority."""
    for number, group in sorted(table.groups.items()):
        buckets = ",".join(f"bucket={_actions(bucket)}" for bucket in group.buckets)
        yield f"group add group_id={number},type=all,{buckets}"
    for flow, cookie in sorted(table.flows.values(), key=lambda entry: (entry[0].table, -entry[0].priority, entry[0].match)):
        fields = [_matched(field) for field in flow.match if field.kind != ETH_TYPE]
        words = [f"cookie={cookie:#x}", f"table={flow.table}", f"priority={flow.priority}", "ip", *fields]
        actions = _actions(flow.actions) if flow.goto is None else f"goto_table:{flow.goto}"
        yield f"flow add {','.join(words)},actions={actions}"


def _matched(field: Field) -> str:
    mask = f"/{_value(field.kind, field.mask)}" if field.mask else ""
    return f"{_MATCHED[field.kind]}={_value(field.kind, field.value)}{mask}"


def _actions(actions: tuple[Action, ...]) -> str:
    return ",".join(map(_action, actions)) or "drop"


def _action(action: Action) -> str:
    match action:
        case Output(port):
            return "in_port" if port == PORT_IN else f"output:{port}"
        case ToGroup(number):
            return f"group:{number}"
        case SetField(Field(kind, value)):
            return f"set_field:{_value(kind, value)}->{_SET[kind]}"
        case _:
            raise AssertionError(action)  # no rule is translated to any other action


def _value(kind: int, value: bytes) -> str:
    if kind == ETH_SRC:
        return value.hex(":")
    if kind in (IPV4_SRC, IPV4_DST):
        return str(ipaddress.IPv4Address(value))
    return str(int.from_bytes(value, "big"))
