"""The kernel configuration of rates, and of ports that are down."""

from __future__ import annotations

from stretto.network.topologies import leaf_spine
from stretto.testbed import wiring
from stretto.testbed.plan import Plan

PLAN = Plan(leaf_spine(2, 2, 2, host_gbps=1, fabric_gbps=4))


def test_every_cable_is_made_once_and_hosts_have_their_addresses() -> None:
    lines = [line for switch in PLAN.switches for line in wiring.cables(PLAN, switch)]
    assert len(lines) == len(PLAN.cables)
    assert "link add port1 type veth peer name eth0 address 02:53:54:00:00:01 netns stretto-testbed-leaf0h0" in lines


def test_rates_are_those_of_the_topology_times_the_scale() -> None:
    host, fabric = (line for line in wiring.queues(PLAN, "leaf0", 0.02) if "tbf" in line and line.split()[3] in ("port1", "port3"))
    assert "rate 20000000 " in host
    assert "rate 80000000 " in fabric
    assert wiring.rate_bps(PLAN, "leaf0h0", 1, 0.02) == 20_000_000


def test_a_cut_link_is_down_at_both_ends_and_a_switch_without_power_at_its_own() -> None:
    assert wiring.ports(PLAN, "spine0", {"spine0:1"}) == ["link set port1 down", "link set port2 up"]
    assert wiring.ports(PLAN, "leaf0", {"spine0:1"}).count("link set port3 down") == 1
    assert not any("down" in line for line in wiring.ports(PLAN, "leaf0", {"spine0"}))
    assert all("down" in line for line in wiring.ports(PLAN, "spine0", {"spine0"}))
