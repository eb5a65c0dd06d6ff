"""The links that background traffic congests, and the load that it sends there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stretto.core.errors import ConfigurationError
from stretto.network.designs import Design, rules_for
from stretto.network.groups import Group, place
from stretto.network.model.traffic import Background
from stretto.network.routes import Failed, Routes
from stretto.network.topologies import named
from stretto.network.topology import Topology
from stretto.network.verification import walk
from stretto.testbed import background
from stretto.testbed.background import PERIOD_S, targets
from stretto.testbed.datagrams import HEADERS_BYTES
from stretto.testbed.fabric import Fabric
from stretto.testbed.plan import Plan
from stretto.testbed.unicast import ports_towards

TESTBED = "testbed(pod_gbps=1)"


def passed(topology: Topology, group: Group, design: Design) -> set[tuple[str, int]]:
    rules = rules_for(topology, group, design).rules
    return {(node, port) for sender in group.senders for node, port, _ in walk(topology, rules, group.address, sender).hops}


@pytest.mark.parametrize("seed", range(1, 9))
def test_idle_hosts_congest_a_link_above_each_receivers_rack(seed: int) -> None:
    topology = named(TESTBED)
    group = place(topology, 3, 3, seed)
    chosen = targets(topology, group, Design("serialised", salt=seed))
    assert [topology.wires[target.switch][target.port].peer for target in chosen] == [topology.rack(member)[0] for member in group.members]
    ports = ports_towards(Routes(topology, Failed(topology)))
    multicast = passed(topology, group, Design("topology_aware", salt=seed))
    assert any((target.switch, target.port) in multicast for target in chosen)
    for target in chosen:
        busy = {*group.members, *group.senders, target.destination}
        assert busy.isdisjoint(target.sources)
        assert all(topology.rack(source)[0] != topology.rack(target.destination)[0] for source in target.sources)
        # All of the traffic passes this link.
        for source in target.sources:
            node = topology.rack(source)[0]
            while node != target.switch:
                node = topology.wires[node][ports[node][target.destination]].peer
            assert ports[target.switch][target.destination] == target.port
    # The target is the same for all designs, so that they are compared under the same traffic.
    assert chosen == targets(topology, group, Design("plain", salt=seed))


def test_background_traffic_needs_an_idle_host() -> None:
    topology = named("leaf_spine(2,2,1)")
    with pytest.raises(ConfigurationError, match="background traffic needs other hosts"):
        targets(topology, place(topology, 1, 1, 1), Design("plain"))


def test_all_sources_together_send_the_requested_load() -> None:
    fabric = Fabric(Plan(named(TESTBED), "never-up"), 0.02)
    group = place(fabric.plan.topology, 3, 3, 1)
    chosen = targets(fabric.plan.topology, group, Design("plain", salt=1))
    sockets: dict[str, Any] = {source: SimpleNamespace() for target in chosen for source in target.sources}
    sends = background._sends(fabric, chosen, Background(0.4, "poisson", seed=1), sockets)
    assert (np.diff(sends.at_ns) >= 0).all()
    assert sends.at_ns[-1] < PERIOD_S * 1e9
    for target in chosen:
        address = (fabric.plan.address(target.destination), background.PORT)
        mine = np.isin(sends.by, [index for index, other in enumerate(sends.destinations) if other == address])
        bits = (sends.payload_bytes[mine] + HEADERS_BYTES).sum() * 8
        assert 0.38 < bits / PERIOD_S / 20e6 < 0.42
