"""The differences between the table of a switch and the table that it should have, described so that they can be found in the switch."""

from __future__ import annotations

from collections.abc import Iterator

from stretto.testbed import openflow
from stretto.testbed.commands import Deviation
from stretto.testbed.flows import Table
from stretto.testbed.openflow import Action, Field, Flow, Group, OtherAction, Output, SetField, ToGroup

_NAMES = {
    openflow.IN_PORT: "in_port",
    openflow.ETH_SRC: "eth_src",
    openflow.ETH_TYPE: "eth_type",
    openflow.IP_DSCP: "ip_dscp",
    openflow.IPV4_SRC: "ipv4_src",
    openflow.IPV4_DST: "ipv4_dst",
}


def deviations(switch: str, wanted: Table, held: Table) -> Iterator[Deviation]:
    """The flows and groups that are missing on a switch, unexpected, or wrong."""
    for key in sorted(wanted.flows.keys() | held.flows.keys()):
        should, does = wanted.flows.get(key), held.flows.get(key)
        if should is None and does is not None:
            yield Deviation(switch, "unexpected flow", describe_flow(does[0]))
        elif should is not None and does is None:
            yield Deviation(switch, "missing flow", describe_flow(should[0]))
        elif should is not None and does is not None and should != does:
            yield Deviation(switch, "wrong flow", f"{describe_flow(does[0])}, should be {describe_flow(should[0])}")
    for number in sorted(wanted.groups.keys() | held.groups.keys()):
        group, other = wanted.groups.get(number), held.groups.get(number)
        if group is None and other is not None:
            yield Deviation(switch, "unexpected group", describe_group(other))
        elif group is not None and other is None:
            yield Deviation(switch, "missing group", describe_group(group))
        elif group is not None and other is not None and group != other:
            yield Deviation(switch, "wrong group", f"{describe_group(other)}, should be {describe_group(group)}")


def describe_flow(flow: Flow) -> str:
    """A flow as text."""
    match = " ".join(map(_describe_field, flow.match)) or "anything"
    then = [*map(_describe_action, flow.actions), *([f"table {flow.goto}"] if flow.goto is not None else [])]
    then += [f"instructions {flow.other.hex()}"] if flow.other else []
    return f"table {flow.table} priority {flow.priority} {match} -> {', '.join(then) or 'drop'}"


def describe_group(group: Group) -> str:
    """A group as text."""
    kind = "" if group.kind == openflow.ALL else f"kind {group.kind} "
    return f"group {group.number} {kind}-> {' | '.join(', '.join(map(_describe_action, bucket)) for bucket in group.buckets) or 'drop'}"


def _describe_field(field: Field) -> str:
    name = _NAMES.get(field.kind, f"field {field.kind}")
    return f"{name}={_value(field.kind, field.value)}" + (f"/{_value(field.kind, field.mask)}" if field.mask else "")


def _value(kind: int, value: bytes) -> str:
    if kind in (openflow.IPV4_SRC, openflow.IPV4_DST):
        return ".".join(map(str, value))
    return value.hex(":") if kind == openflow.ETH_SRC else str(int.from_bytes(value, "big"))


def _describe_action(action: Action) -> str:
    match action:
        case Output(port):
            return "back" if port == openflow.PORT_IN else f"port {port}"
        case ToGroup(number):
            return f"group {number}"
        case SetField(field):
            return f"set {_describe_field(field)}"
        case OtherAction(data):
            return f"action {data.hex()}"
