"""The names of a testbed's parts, and the limits of one machine."""

from __future__ import annotations

import msgspec
import pytest

from stretto.core.errors import ConfigurationError
from stretto.network.topologies import leaf_spine, named, twelve_switches
from stretto.network.topology import Link
from stretto.testbed.plan import Cable, Plan


def test_all_names_are_different() -> None:
    plan = Plan(twelve_switches())
    assert len({plan.namespace(node) for node in plan.nodes}) == 12 + 16
    assert len({plan.address(host) for host in plan.topology.hosts}) == 16
    assert len({plan.hardware_address(host) for host in plan.topology.hosts}) == 16
    assert plan.interfaces("p0t0") == {port: f"port{port}" for port in range(1, 7)}
    assert plan.interfaces("p0t0h0") == {1: "eth0"}


def test_every_link_is_a_cable_with_a_switch_above() -> None:
    plan = Plan(twelve_switches())
    assert len(plan.cables) == len(plan.topology.links)
    assert all(plan.topology.level[cable.upper] == plan.topology.level[cable.lower] + 1 for cable in plan.cables)


@pytest.mark.parametrize("text", ["spine1-leaf0", "leaf0-spine1", "spine1:1", "leaf0:3"])
def test_a_link_is_found_by_all_of_its_names(text: str) -> None:
    assert Plan(leaf_spine(2, 2, 1)).part(text) == Cable("spine1", 1, "leaf0", 3)


def test_a_switch_is_found_by_its_name() -> None:
    assert Plan(leaf_spine(2, 2, 1)).part("leaf1") == "leaf1"


@pytest.mark.parametrize("text", ["leaf0h0", "spine7", "leaf0-leaf1", "spine1:9", ""])
def test_names_of_no_switch_or_link_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a switch nor a link"):
        Plan(leaf_spine(2, 2, 1)).part(text)


def test_two_links_between_the_same_switches_are_distinguished_by_their_ends() -> None:
    topology = leaf_spine(1, 1, 1)
    topology = msgspec.structs.replace(topology, links=(*topology.links, Link(("leaf0:3", "spine0:2"), 40))).validate()
    assert Plan(topology).part("spine0:2") == Cable("spine0", 2, "leaf0", 3)
    with pytest.raises(ConfigurationError, match="more than one link; name one of spine0:1, spine0:2"):
        Plan(topology).part("spine0-leaf0")


@pytest.mark.parametrize(
    ("topology", "reason"),
    [
        ("leaf_spine(20,1,1)", "21 switches are too many"),
        ("leaf_spine(5,1,13)", "65 hosts are too many"),
    ],
)
def test_a_topology_too_large_for_a_machine_is_refused(topology: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Plan(named(topology)).validate()


def test_names_that_no_namespace_can_have_are_refused() -> None:
    topology = leaf_spine(1, 1, 1)
    topology = msgspec.structs.replace(topology, hosts=("a/b",), links=(Link(("a/b:1", "leaf0:1"), 1), topology.links[1])).validate()
    with pytest.raises(ConfigurationError, match="'a/b' cannot name a namespace"):
        Plan(topology).validate()
    with pytest.raises(ConfigurationError, match=r"'../etc' cannot name a testbed"):
        Plan(topology, "../etc")
