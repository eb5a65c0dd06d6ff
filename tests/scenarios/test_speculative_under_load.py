"""Schedules that need load: machines that cost time, thousands of operations, the seeded world instead of single steps."""

from __future__ import annotations

from stretto.protocols.speculative import SPECULATIVE
from stretto.simulation.run import Simulation
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs

MS = 1_000_000
COSTS = Costs(receive_datagram_ns=15_000, receive_message_ns=20_000, send_datagram_ns=15_000, send_message_ns=5_000)


def test_a_paused_replica_of_three_catches_up_while_the_load_goes_on() -> None:
    """Without it, every commit needs a reconciliation, every few ms. It must catch up nevertheless, and the fast path must return."""
    spec = SimulationSpec("speculative", sessions=32, clients=2, operations=1_000_000, checks=False, costs=COSTS, fault_ns=1_000 * MS)
    simulation = Simulation(spec, SPECULATIVE)
    world = simulation.world
    paused, replicas = world.machines[2], [world.machines[index].node for index in range(3)]
    behind = []
    held: list[int] = []
    world.at(100 * MS, lambda *_: held.append(paused.hold()))
    world.at(250 * MS, lambda *_: paused.release(held[0]))
    world.at(250 * MS, lambda *_: behind.append(replicas[0].state.committed - replicas[2].state.committed))
    world.at(900 * MS, lambda *_: behind.append(replicas[0].state.log.last - replicas[2].state.log.last))
    world.at(900 * MS, lambda *_: behind.append(replicas[0].metrics()["reconciliations"]))
    simulation.load.begin(spec.operations)
    world.run(1_000 * MS, 100_000_000)
    at_release, later, reconciliations = behind
    assert at_release > 1_000
    assert abs(later) < 200
    assert replicas[0].metrics()["reconciliations"] == reconciliations, "the fast path has come back"
    assert {replica.metrics()["view_changes"] for replica in replicas} == {0}
