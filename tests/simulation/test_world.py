"""Machines in virtual time: timers, costs, queues, shared datagrams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from stretto.core.node import Address, Message, Port
from stretto.core.state_machine import NullMachine
from stretto.simulation.metering import MeteredMachine
from stretto.simulation.network import GROUP, Delay, DirectNetwork, DisturbedNetwork, Links, Network
from stretto.simulation.world import Codec, Costs, Machine, World
from stretto.verify.violation import Violation

FREE = Costs()
EXACT = Links(Delay("constant", 1_000), Delay("constant", 0))


class Ping(Message, frozen=True, array_like=True, tag=1, gc=False):
    number: int
    payload: Any = None


class Recorder:
    """A node that records what happens to it, and when, and answers nothing."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.seen: list[tuple[int, Any]] = []

    def on_message(self, source: Address, message: Any) -> None:
        self.seen.append((self.port.now_ns, message.number))

    def on_timer(self, name: str) -> None:
        self.seen.append((self.port.now_ns, name))

    def metrics(self) -> dict[str, Any]:
        return {}

    def snapshot(self) -> Any:
        return None

    def check_invariants(self) -> None:
        pass


def world_of(costs: Sequence[Costs], codec: Codec | None = None) -> tuple[World, list[Machine]]:
    """Machines with recorders at addresses from 0, every link taking 1 us."""
    group = range(len(costs))
    world = World(DirectNetwork(EXACT, group, Random(1)), group, codec)
    machines = [world.add(Machine(world, address, cost, Random(address))) for address, cost in enumerate(costs)]
    for machine in machines:
        machine.start(Recorder)
    return world, machines


def send(machine: Machine, destination: Address, *numbers: int) -> None:
    """The messages leave as one burst of the machine."""

    def act(_first: Any, _second: Any) -> None:
        for number in numbers:
            machine.send(destination, Ping(number))

    machine.submit(act)


def test_messages_of_one_burst_share_a_datagram() -> None:
    world, (one, two, three) = world_of([FREE] * 3)
    send(one, 1, 1, 2, 3)
    send(one, GROUP, 4)
    world.run(10_000, 100)
    assert two.node.seen == [(1_000, 1), (1_000, 2), (1_000, 3), (1_000, 4)]
    assert (two.datagrams_received, two.messages_received) == (2, 4)
    assert three.node.seen == [(1_000, 4)]
    assert one.node.seen == []


def test_a_datagram_holds_only_so_many_messages() -> None:
    world, (one, two) = world_of([Costs(datagram_messages=2), FREE])
    send(one, 1, 1, 2, 3, 4, 5)
    world.run(10_000, 100)
    assert [number for _, number in two.node.seen] == [1, 2, 3, 4, 5]
    assert two.datagrams_received == 3


def test_costs_keep_a_machine_busy_and_bursts_share_them() -> None:
    costs = Costs(receive_datagram_ns=100, receive_message_ns=10, send_datagram_ns=50, send_message_ns=5)
    world, (one, two) = world_of([costs, costs])
    send(one, 1, 1)
    world.run(10_000, 100)
    send(one, 1, 2)
    send(one, 1, 3)  # waits until the first is sent
    world.run(20_000, 100)
    # The last arrives 55 ns after the one before it, and waits until that is handled.
    assert two.node.seen == [(1_055, 1), (11_055, 2), (11_165, 3)]


def test_queued_input_is_handled_in_bursts() -> None:
    world, (one, two) = world_of([FREE, Costs(receive_datagram_ns=100, burst=2, queue=4)])
    for number in range(6):
        send(one, 1, number)
    world.run(10_000, 100)
    # The first keeps it busy; of the five others, four fit the queue.
    assert two.node.seen == [(1_000, 0), (1_100, 1), (1_100, 2), (1_300, 3), (1_300, 4)]
    assert two.datagrams_dropped == 1


def test_timers() -> None:
    world, (one,) = world_of([FREE])
    one.set_timer("again", 100)
    one.set_timer("again", 300)
    one.set_timer("sooner", 200)
    one.set_timer("sooner", 50)
    one.set_timer("never", 70)
    one.cancel_timer("never")
    world.run(1_000, 100)
    assert one.node.seen == [(50, "sooner"), (300, "again")]


def test_a_frozen_machine_keeps_its_input_and_fires_timers_late() -> None:
    world, (one, two) = world_of([FREE, Costs(queue=4)])
    incarnation = two.hold()
    two.set_timer("late", 10)
    two.set_timer("cancelled", 20)
    for number in range(3):
        send(one, 1, number)
    world.at(5_000, two.release, incarnation)
    world.at(4_000, lambda *_: two.cancel_timer("cancelled"))
    world.run(10_000, 100)
    # The two timers and two of the datagrams fit the queue.
    assert two.node.seen == [(5_000, "late"), (5_000, 0), (5_000, 1)]
    assert two.datagrams_dropped == 1


def test_a_crashed_machine_does_nothing_more() -> None:
    world, (one, two) = world_of([FREE, FREE])
    two.set_timer("never", 10)
    send(one, 1, 1)
    two.crash()
    world.run(10_000, 100)
    assert two.node.seen == []
    assert two.datagrams_dropped == 1


def test_the_next_incarnation_keeps_nothing_of_the_one_before() -> None:
    """Timers, queued input, a burst in progress and a pause end with it. Datagrams in flight arrive."""
    world, (one, two) = world_of([FREE, Costs(receive_datagram_ns=500)])
    send(one, 1, 1)
    world.run(1_000, 100)
    former, pause = two.node, two.hold()
    two.set_timer("never", 300)
    send(one, 1, 2)
    world.run(2_100, 100)
    send(one, 1, 3)
    two.crash()
    two.start(Recorder)
    two.set_timer("soon", 200)
    two.release(pause)
    world.run(10_000, 100)
    assert former.seen == [(1_000, 1)]
    assert two.node.seen == [(2_300, "soon"), (3_100, 3)]
    assert two.datagrams_dropped == 0


def test_a_node_that_stops_says_why_and_sends_nothing_of_its_last_burst() -> None:
    world, (one, two) = world_of([Costs(receive_datagram_ns=100), FREE])
    reports: list[Any] = []
    world.on_report = lambda address, event, details: reports.append((address, event, details))

    def stop(source: Address, message: Any) -> None:
        one.node.seen.append(message.number)
        one.send(1, Ping(7))
        if message.number == 2:
            one.stop("enough")
            one.send(1, Ping(8))
            one.set_timer("never", 10)

    one.node.on_message = stop
    send(two, 0, 1)
    send(two, 0, 2, 3)
    send(two, 0, 4)
    world.run(10_000, 100)
    assert one.node.seen == [1, 2]
    assert [number for _, number in two.node.seen] == [7]
    assert reports == [(0, "stopped", {"reason": "enough"})]
    assert one.crashed


def test_a_clock_that_runs_fast_or_slow_does_so_for_timers_too() -> None:
    world, (one,) = world_of([FREE])
    world.run(1_000, 10)
    one.set_timer("before", 500)
    one.set_clock_rate(2.0)
    one.set_timer("fast", 1_000)
    world.run(2_000, 10)
    assert one.now_ns == 3_000
    one.set_clock_rate(0.5)
    one.set_timer("slow", 1_000)
    world.run(5_000, 10)
    assert one.now_ns == 4_500
    one.set_clock_rate(1.0)
    world.run(6_000, 10)
    assert one.now_ns == 5_500
    assert one.node.seen == [(2_000, "before"), (2_000, "fast"), (4_000, "slow")]


def test_with_a_codec_nodes_share_no_object() -> None:
    world, (one, two) = world_of([FREE, FREE], Codec((Ping,)))
    shared = [1]
    received: list[Ping] = []
    two.node.on_message = lambda _, message: received.append(message)
    one.submit(lambda *_: one.send(1, Ping(1, shared)))
    world.run(10_000, 100)
    assert received == [Ping(1, [1])]
    assert received[0].payload is not shared


def test_time_stops_at_the_end_and_at_a_stop() -> None:
    world, _ = world_of([FREE])
    world.at(500, lambda *_: world.stop())
    assert world.run(1_000, 100) is True
    assert world.now_ns == 500
    assert world.run(1_000, 100) is False
    assert world.now_ns == 1_000


def test_nodes_that_send_without_end_are_detected() -> None:
    world, (one, two) = world_of([FREE, FREE])
    one.node.on_message = lambda *_: one.send(1, Ping(1))
    two.node.on_message = lambda *_: two.send(0, Ping(2))
    send(one, 1, 1)
    with pytest.raises(Violation, match="endless activity"):
        world.run(1_000_000_000, 1_000)


def test_delays_have_their_distribution() -> None:
    for delay, least, median in (
        (Delay("constant", 100, 20), 120, 120),
        (Delay("uniform", 100, 20), 100, 120),
        (Delay("exponential", 100, 20), 100, 114),
        (Delay("lognormal", 100, 20), 100, 120),
    ):
        draw = delay.sampler(Random(5))
        draws = sorted(draw() for _ in range(10_001))
        assert least <= draws[0]
        assert abs(draws[5_000] - median) <= 2, delay


def test_multicasts_are_seen_in_mostly_one_order() -> None:
    """The delays of copies differ only by the skew, so multicasts that are sent further apart keep their order at all receivers."""
    group = range(3)
    network = DirectNetwork(Links(Delay("uniform", 1_000, 500), Delay("uniform", 0, 10)), group, Random(1))
    orders: list[list[tuple[int, int]]] = [[] for _ in group]
    for number in range(1_000):

        def arrive(receiver: Address, at: int, number: int = number) -> None:
            orders[receiver].append((at, number))

        network.carry(number * 100, 1 << 20, GROUP, 0, arrive)
    first, second, third = ([number for _, number in sorted(order)] for order in orders)
    assert first != sorted(first), "the transit times let multicasts overtake each other"
    same = sum(a == b == c for a, b, c in zip(first, second, third, strict=True))
    assert 700 < same < 1_000


def copies_of(network: Network, destination: Address, datagrams: int = 10_000) -> list[tuple[int, Address, int]]:
    """The copies of datagrams that leave 1 us apart: number, receiver, and travel time."""
    arrived: list[tuple[int, Address, int]] = []
    for number in range(datagrams):
        sent_ns = number * 1_000

        def arrive(to: Address, at: int, number: int = number, sent_ns: int = sent_ns) -> None:
            arrived.append((number, to, at - sent_ns))

        network.carry(sent_ns, 1 << 20, destination, 0, arrive)
    return arrived


def test_loss_is_exact_and_strikes_every_copy_for_itself() -> None:
    network = DisturbedNetwork(DirectNetwork(EXACT, range(3), Random(1)), Links(loss=0.1), Random(2))
    for destination, sent in ((GROUP, 30_000), (1, 10_000)):
        arrived = copies_of(network, destination)
        assert len(arrived) == pytest.approx(0.9 * sent, rel=0.01)
        assert all(took == 1_000 for _, _, took in arrived)
    copies = Counter(number for number, _, _ in copies_of(network, GROUP))
    assert {1, 2, 3} <= set(copies.values())


def test_only_multicasts_are_delayed() -> None:
    links = Links(reorder=0.01, reorder_delay=Delay("constant", 5_000))
    network = DisturbedNetwork(DirectNetwork(EXACT, range(3), Random(1)), links, Random(2))
    took = Counter(took for _, _, took in copies_of(network, GROUP))
    assert set(took) == {1_000, 6_000}
    assert took[6_000] == pytest.approx(300, rel=0.2)
    assert {took for _, _, took in copies_of(network, 1)} == {1_000}


def test_disturbances_in_spells_end_between_them() -> None:
    links = Links(loss=0.5, spell_ns=2_000_000)
    network = DisturbedNetwork(DirectNetwork(EXACT, range(3), Random(1)), links, Random(2))
    arrived = Counter(number // 2_000 for number, _, _ in copies_of(network, 1))
    assert [arrived[spell] for spell in (0, 2, 4)] == [2_000] * 3
    assert arrived[1] + arrived[3] == pytest.approx(2_000, rel=0.1)


def test_disturbances_have_their_own_random_source() -> None:
    links = Links()
    plain = copies_of(DirectNetwork(links, range(3), Random(1)), GROUP)
    disturbed = DisturbedNetwork(DirectNetwork(links, range(3), Random(1)), Links(loss=0.2), Random(2))
    assert set(copies_of(disturbed, GROUP)) < set(plain)


def test_executed_operations_are_charged_to_the_burst() -> None:
    world, (one, two) = world_of([FREE, Costs(receive_message_ns=10, execute_ns=700)])
    replicated = MeteredMachine(NullMachine(), two)
    two.node.on_message = lambda source, message: (two.node.seen.append(two.now_ns), replicated.execute(b"", 0, 0))
    send(one, 1, 1, 2)
    world.run(1_500, 100)
    send(one, 1, 3)
    world.run(10_000, 100)
    assert two.node.seen == [1_000, 1_000, 2_500]
    send(one, 1, 4)
    world.run(20_000, 100)
    assert two.node.seen[3:] == [11_000]
    assert two.busy_ns == 4 * 710
    assert (one.datagrams_sent, one.messages_sent) == (3, 4)


def test_input_that_arrives_while_a_machine_wakes_up_belongs_to_the_burst() -> None:
    world, (one, two) = world_of([FREE, Costs(receive_message_ns=10, burst_ns=300, send_datagram_ns=5)])
    for delay_ns, number in ((0, 1), (200, 2), (305, 3)):
        world.at(delay_ns, lambda number, _: send(one, 1, number), number)
    world.at(250, lambda *_: two.set_timer("due", 1_060))
    world.run(10_000, 100)
    # The first wakes it up and the second comes meanwhile; the third, and the timer, come while these two are handled.
    assert two.node.seen == [(1_300, 1), (1_300, 2), (1_620, 3), (1_620, "due")]
    assert two.busy_ns == 2 * 300 + 3 * 10


def test_a_crash_ends_the_waking_up() -> None:
    world, (one, two) = world_of([FREE, Costs(burst_ns=300)])
    send(one, 1, 1)
    world.run(1_100, 100)
    two.crash()
    two.start(Recorder)
    send(one, 1, 2)
    incarnation = two.hold()
    world.at(2_200, two.release, incarnation)
    world.run(10_000, 100)
    assert two.node.seen == [(2_500, 2)]
