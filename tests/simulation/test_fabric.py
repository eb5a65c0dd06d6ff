"""Protocols over the packet-level model of a data centre: the design of its multicast decides how often replicas must reconcile."""

from __future__ import annotations

import pytest

from stretto.core.errors import ConfigurationError
from stretto.protocols.speculative import SPECULATIVE
from stretto.simulation.fabric import Fabric, FabricNetwork
from stretto.simulation.network import GROUP
from stretto.simulation.run import SimulationResult, simulate
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import World

CLIENTS = range(1 << 20, (1 << 20) + 2)


def result_over(fabric: Fabric, seed: int = 1) -> SimulationResult:
    result = simulate(SimulationSpec("speculative", sessions=16, clients=8, operations=400, fabric=fabric, seed=seed), SPECULATIVE)
    assert result.violation is None
    assert result.operations == 400
    return result


def test_the_better_the_order_the_fewer_reconciliations() -> None:
    plain, aware, serialised = (
        result_over(Fabric("testbed", design, load=0.3)).reconciliations for design in ("plain", "topology_aware", "serialised")
    )
    assert plain > aware > serialised == 0


def test_a_run_is_decided_by_its_seed() -> None:
    fabric = Fabric("testbed", "topology_aware", load=0.3, jitter_us=0.5)
    assert result_over(fabric) == result_over(fabric)
    assert result_over(fabric).latency_us != result_over(fabric, seed=2).latency_us


def test_faults_strike_here_too() -> None:
    spec = SimulationSpec(
        "speculative", sessions=8, clients=2, operations=300, faults=("loss", "duplication", "crash"), seed=3, fabric=Fabric("testbed")
    )
    assert simulate(spec, SPECULATIVE).violation is None


def network_and_world(fabric: Fabric) -> tuple[FabricNetwork, World]:
    network = FabricNetwork(fabric, range(3), CLIENTS, seed=1)
    world = World(network, range(3))
    network.at = world.at
    return network, world


def test_every_receiver_gets_one_copy_and_the_sender_none() -> None:
    network, world = network_and_world(Fabric("testbed", "serialised"))
    arrived: list[tuple[int, int]] = []
    network.carry(0, CLIENTS[0], GROUP, 100, lambda receiver, at: arrived.append((receiver, at)))
    network.carry(0, 1, GROUP, 100, lambda receiver, at: arrived.append((10 + receiver, at)))
    network.carry(0, 2, CLIENTS[1], 100, lambda receiver, at: arrived.append((receiver, at)))
    world.run(1_000_000, 10_000)
    assert sorted(receiver for receiver, _ in arrived) == [0, 1, 2, 10, 12, CLIENTS[1]]
    assert len({network.hosts[node] for node in (0, 1, 2, *CLIENTS)}) == 5


def test_a_large_datagram_arrives_with_its_last_packet() -> None:
    small, large = [], []
    network, world = network_and_world(Fabric("testbed"))
    network.carry(0, 0, 1, 1_000, lambda _, at: small.append(at))
    world.run(10_000_000, 10_000)
    network.carry(10_000_000, 0, 1, 100_000, lambda _, at: large.append(at - 10_000_000))
    world.run(100_000_000, 10_000)
    assert len(small) == len(large) == 1
    at_1_gbit_s_ns = (100_000 - 1_000) * 8
    assert large[0] - small[0] > at_1_gbit_s_ns


def test_packets_dropped_by_a_full_buffer_never_arrive() -> None:
    network, world = network_and_world(Fabric("testbed", "plain"))
    arrived: list[int] = []
    for _ in range(2_000):
        network.carry(0, CLIENTS[0], GROUP, 1_000, lambda receiver, _: arrived.append(receiver))
    world.run(1_000_000_000, 1_000_000)
    assert 0 < len(arrived) < 6_000


@pytest.mark.parametrize(
    ("fabric", "key"),
    [
        (Fabric("nowhere"), "topology"),
        (Fabric("testbed", "crooked"), "design"),
        (Fabric("testbed", merge="late"), "merge"),
        (Fabric("testbed", load=1.5), "load"),
        (Fabric("testbed", bursts="none"), "bursts"),
        (Fabric("testbed", jitter_us=-1), "jitter"),
    ],
)
def test_wrong_fabric_settings_are_refused_by_name(fabric: Fabric, key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        SimulationSpec("speculative", fabric=fabric).validate()
