"""Rules are translated to flows and back without loss, and a switch that obeys the flows obeys the rules."""

from __future__ import annotations

import random
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stretto.core.errors import ConfigurationError
from stretto.network.designs import DESIGNS, MERGES, Design, rules_for
from stretto.network.groups import Group, place
from stretto.network.routes import Failed, Routes
from stretto.network.rules import PRIORITY, SHARED, Match, Rule, Rules, lookup, union
from stretto.network.topologies import fat_tree, leaf_spine, three_level, twelve_switches
from stretto.network.topology import Topology
from stretto.testbed import openflow
from stretto.testbed.flows import Table, rules_of, table_of
from stretto.testbed.plan import Plan

TOPOLOGIES = [twelve_switches(), fat_tree(4), leaf_spine(4, 3, 3), three_level(2, 3, 3, 3, 2), leaf_spine(1, 1, 5)]
HOSTS = {f"10.83.0.{number}": name for number, name in enumerate("abc", 1)}
ADDRESSES = {name: address for address, name in HOSTS.items()}
PORTS = range(1, 5)
Done: TypeAlias = tuple[list[int], int, str]
"""What becomes of a packet: the ports that its copies leave by, their label and their queue."""


@st.composite
def compiled(draw: st.DrawFn) -> tuple[Topology, Rules]:
    """Random groups under a random design, in a network with failures."""
    topology = draw(st.sampled_from(TOPOLOGIES))
    dice = random.Random(draw(st.integers(0, 2**32)))
    ends = [end for link in topology.links for end in link.ends]
    failed = Failed(topology, dice.sample(ends, dice.randrange(5)))
    design = Design(draw(st.sampled_from(DESIGNS)), draw(st.sampled_from(MERGES)), draw(st.integers(0, 9)))
    groups = []
    for index in range(draw(st.integers(1, 3))):
        senders, receivers = dice.randrange(1, 4), dice.randrange(1, len(topology.hosts) - 3)
        group = place(topology, min(senders, len(topology.hosts) - receivers), receivers, dice.randrange(99), index)
        groups.append(group if dice.random() < 0.5 else msgspec.structs.replace(group, senders=()))
    routes = Routes(topology, failed)
    return topology, union(rules_for(topology, group, design, routes).rules for group in groups)


@given(compiled())
@settings(max_examples=150, deadline=None)
def test_installed_flows_translate_back_to_the_compiled_rules(case: tuple[Topology, Rules]) -> None:
    topology, rules = case
    plan = Plan(topology)
    addresses = {host: plan.address(host) for host in topology.hosts}
    for own in rules.values():
        table = table_of(own, addresses, {})
        assert rules_of(table, {address: host for host, address in addresses.items()}) == tuple(
            sorted(own, key=lambda rule: rule.match.group)
        )


matches = st.builds(
    Match,
    st.sampled_from(["239.0.0.1", "239.0.0.2"]),
    st.none() | st.sampled_from(PORTS),
    st.none() | st.integers(0, 2),
    st.none() | st.sampled_from("abc"),
)
rules_of_a_switch = st.lists(
    st.builds(
        Rule,
        matches,
        st.lists(st.sampled_from(PORTS), unique=True, max_size=4).map(lambda ports: tuple(sorted(ports))),
        st.none() | st.integers(0, 2),
        st.sampled_from([SHARED, PRIORITY]),
    ),
    max_size=7,
)


@given(rules_of_a_switch)
@settings(max_examples=300, deadline=None)
def test_any_rules_are_obeyed(rules: list[Rule]) -> None:
    table = table_of(rules, ADDRESSES, {"a": 1})
    back = rules_of(table, HOSTS)
    for group in ("239.0.0.1", "239.0.0.2"):
        for port in PORTS:
            for label in range(3):
                for sender in "abc":
                    due = done(lookup({"s": tuple(rules)}, "s", group, port, label, sender), label)
                    assert done(lookup({"s": back}, "s", group, port, label, sender), label) == due
                    assert carried_out(table, group, port, label, sender) == due


def done(rule: Rule | None, label: int) -> Done | None:
    """The effect of a rule on a packet."""
    if rule is None or not rule.out_ports:
        return None
    return sorted(rule.out_ports), label if rule.set_label is None else rule.set_label, rule.queue


def carried_out(table: Table, group: str, port: int, label: int, sender: str) -> Done | None:
    """The effect of flows on a packet by the rules of OpenFlow, computed without the code under test."""
    packet = {
        openflow.ETH_TYPE: b"\x08\x00",
        openflow.IN_PORT: bytes([0, 0, 0, port]),
        openflow.ETH_SRC: bytes([2, 0x53, 0x54, bool(label), 0, label or 77]),
        openflow.IPV4_SRC: bytes(map(int, ADDRESSES[sender].split("."))),
        openflow.IPV4_DST: bytes(map(int, group.split("."))),
        openflow.IP_DSCP: b"\x11",
    }

    def matching(field: openflow.Field) -> bool:
        value = int.from_bytes(packet[field.kind], "big")
        mask = int.from_bytes(field.mask, "big") if field.mask else -1
        return value & mask == int.from_bytes(field.value, "big") & mask

    copies = []
    stage: int | None = 0
    while stage is not None:
        flows = [flow for flow, _ in table.flows.values() if flow.table == stage and all(map(matching, flow.match))]
        best = max(flows, key=lambda flow: flow.priority, default=None)
        if best is None:
            break
        assert sum(flow.priority == best.priority for flow in flows) == 1
        actions = list(best.actions)
        for action in actions:
            if isinstance(action, openflow.SetField):
                packet[action.field.kind] = action.field.value
            elif isinstance(action, openflow.ToGroup):
                actions += [action for bucket in table.groups[action.group].buckets for action in bucket]
            elif isinstance(action, openflow.Output) and action.port != port:
                copies.append(port if action.port == openflow.PORT_IN else action.port)
        stage = best.goto
    if not copies:
        return None
    source = packet[openflow.ETH_SRC]
    return sorted(copies), source[5] if source[3] else 0, {b"\x2e": PRIORITY, b"\x00": SHARED}[packet[openflow.IP_DSCP]]


def test_a_change_of_one_rule_does_not_change_the_flows_of_others() -> None:
    topology = twelve_switches()
    plan = Plan(topology)
    addresses = {host: plan.address(host) for host in topology.hosts}
    group = Group("239.0.0.1", ("p0t0h0", "p1t0h0"), ("p0t0h1", "p0t0h2", "p1t1h0"))
    one = rules_for(topology, group, Design("serialised")).rules
    other = rules_for(topology, msgspec.structs.replace(group, senders=group.senders[1:]), Design("serialised")).rules
    before, after = (table_of(rules["p0t0"], addresses, {}) for rules in (one, other))
    assert len(before.flows.items() - after.flows.items()) == 1
    assert not after.flows.items() - before.flows.items()


def test_ports_beyond_the_bits_of_a_group_are_refused() -> None:
    rule = Rule(Match("239.0.0.1"), (1, 32))
    with pytest.raises(ConfigurationError, match="1 to 31"):
        table_of([rule], ADDRESSES, {})
