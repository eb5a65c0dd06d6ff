"""Clusters on a testbed's hosts: where everything is, before anything runs."""

from __future__ import annotations

import pytest

from stretto.bench.testbed import busiest_root, config_at, place_cluster
from stretto.catalog import protocol_names
from stretto.core.errors import ConfigurationError
from stretto.network.designs import DESIGNS, Design, rules_for
from stretto.network.topologies import named
from stretto.testbed.plan import Plan

TOPOLOGY = named("testbed")


@pytest.mark.parametrize("protocol", protocol_names())
def test_all_protocols_have_the_same_hosts(protocol: str) -> None:
    places, others = (place_cluster(TOPOLOGY, name, 3, 2, seed=7) for name in (protocol, "speculative"))
    assert places.clients == others.clients
    assert places.replicas == others.replicas[: len(places.replicas)]
    assert len({*places.members, *places.clients}) == len(places.members) + len(places.clients)
    assert set(places.group.members) == set(places.replicas)
    assert set(places.group.senders) == {*places.members, *places.clients}


@pytest.mark.parametrize("protocol", protocol_names())
def test_a_configuration_names_the_hosts_of_its_members(protocol: str) -> None:
    places, names = place_cluster(TOPOLOGY, protocol, 3, 2, seed=7), Plan(TOPOLOGY, "t")
    config = config_at(places, names, protocol, "null")
    assert [member.host for member in config.members] == [names.address(host) for host in places.members]
    assert config.n == len(places.replicas)
    assert config.multicast is not None
    assert config.multicast.group == places.group.address


def test_too_few_hosts() -> None:
    with pytest.raises(ConfigurationError, match="more than the 3 hosts"):
        place_cluster(named("leaf_spine(1,1,3)"), "speculative", 3, 1, seed=1)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("seed", range(5))
def test_the_busiest_root_is_one_that_carries_the_group(design: str, seed: int) -> None:
    places = place_cluster(TOPOLOGY, "speculative", 3, 3, seed)
    compiled = rules_for(TOPOLOGY, places.group, Design(design, salt=seed))
    root = busiest_root(TOPOLOGY, places.group, Design(design, salt=seed))
    assert root in TOPOLOGY.roots
    if design == "serialised":
        assert compiled.roots == (root,)
    elif compiled.roots:
        assert root in compiled.roots
