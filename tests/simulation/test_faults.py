"""Each fault does what its name says, for a while, and can be healed."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from stretto.core.errors import ConfigurationError
from stretto.core.node import Address, Message, Port
from stretto.core.trace import Delivered, Dropped, FaultBegun, FaultEnded, TimerFired, TraceRecord
from stretto.simulation.faults import FAULTS, Faults, FaultyNetwork, Stricken, check_names
from stretto.simulation.network import Delay, DirectNetwork, Links
from stretto.simulation.world import Costs, World

INTERVAL_NS = 500_000
STEADY = Links(Delay("constant", 20_000), Delay("constant", 0))


class Beat(Message, frozen=True, array_like=True, tag=1, gc=False):
    number: int


class Beacon:
    """Multicasts a number every 500 us."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.number = 0
        port.set_timer("beat", INTERVAL_NS)

    def on_message(self, source: Address, message: Any) -> None:
        pass

    def on_timer(self, name: str) -> None:
        self.number += 1
        self.port.multicast(Beat(self.number))
        self.port.set_timer("beat", INTERVAL_NS)


class Stricter:
    """Five beacons, a fault, half a second with it, and a tenth after it was healed."""

    def __init__(self, *names: str, seed: int = 1) -> None:
        self.records: list[TraceRecord] = []
        group = range(5)
        network = FaultyNetwork(DirectNetwork(STEADY, group, Random(0)))
        world = World(network, group, None, self.records.append)
        self.machines = [world.add(address, Costs(), Random(address)) for address in group]
        self.stricken = Stricken(world, network, self.machines, [])
        for machine in self.machines:
            machine.start(Beacon)
        faults = Faults(names, self.stricken, f"{seed}")
        world.run(500_000_000, 1_000_000)
        faults.heal()
        self.healed_ns = world.now_ns
        world.run(600_000_000, 1_000_000)
        self.network = network

    def of(self, kind: type[TraceRecord]) -> list[Any]:
        return [record for record in self.records if type(record) is kind]

    def late(self) -> list[int]:
        """By how much deliveries came later than the link takes."""
        return [record.time_ns % INTERVAL_NS - 20_000 for record in self.of(Delivered)]

    def longest_silence(self) -> dict[Address, int]:
        """The longest time between two firings of each node's timer."""
        last: dict[Address, int] = {}
        longest: Counter[Address] = Counter()
        for record in self.of(TimerFired):
            longest[record.node] = max(longest[record.node], record.time_ns - last.get(record.node, 0))
            last[record.node] = record.time_ns
        return longest


def overtaken(run: Stricter) -> int:
    """Deliveries of a number that is lower than one before it, of the same sender at the same receiver."""
    highest: Counter[tuple[Address, Address]] = Counter()
    count = 0
    for record in run.of(Delivered):
        pair = record.source, record.node
        number = record.message["number"]
        count += number < highest[pair]
        highest[pair] = max(highest[pair], number)
    return count


def doubled(run: Stricter) -> int:
    deliveries = Counter((record.source, record.node, record.message["number"]) for record in run.of(Delivered))
    return sum(times > 1 for times in deliveries.values())


def lost(run: Stricter) -> set[tuple[Address, Address]]:
    return {(record.source, record.node) for record in run.of(Dropped)}


def test_without_faults_all_is_well() -> None:
    run = Stricter()
    assert (overtaken(run), doubled(run), lost(run), set(run.late())) == (0, 0, set(), {0})
    assert run.of(FaultBegun) == []


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_strikes_and_is_healed(name: str) -> None:
    run = Stricter(name)
    begun, ended = run.of(FaultBegun), run.of(FaultEnded)
    assert begun
    assert {record.fault for record in begun} == {name}
    assert max(record.time_ns for record in begun + ended) <= run.healed_ns
    assert run.network.tamperings == []
    if name != "crash":
        assert len(begun) == len(ended)
        after = [record for record in run.records if record.time_ns > run.healed_ns + 100_000_000 - 3 * INTERVAL_NS]
        assert len({record.node for record in after if type(record) is Delivered}) == 5
        assert not any(type(record) is Dropped for record in after)
        assert all(machine.slowdown_ns == 0 for machine in run.machines)


def test_loss() -> None:
    run = Stricter("loss")
    assert lost(run)
    assert (overtaken(run), doubled(run), set(run.late())) == (0, 0, {0})


def test_duplication() -> None:
    run = Stricter("duplication")
    assert doubled(run)
    assert not lost(run)


def test_reordering() -> None:
    run = Stricter("reordering", seed=2)
    assert overtaken(run)
    assert not lost(run)
    assert not doubled(run)


@pytest.mark.parametrize("name", ["partition", "one_way_partition"])
def test_partition(name: str) -> None:
    """Between its beginning and its end, nothing crosses from one side to the other; the other way depends on the kind."""
    run = Stricter(name)
    side: set[Address] | None = None
    crossings = Counter[str]()
    struck_ns = 0
    for record in run.records:
        if isinstance(record, FaultBegun):
            side, struck_ns = set(record.details["side"]), record.time_ns
        elif isinstance(record, FaultEnded):
            side = None
        elif side is not None and isinstance(record, Delivered) and record.time_ns > struck_ns + 20_000:
            inside = record.source in side, record.node in side
            crossings[{(True, False): "out", (False, True): "in"}.get(inside, "within")] += 1
    assert lost(run)
    assert crossings["within"]
    assert crossings["in"] == 0
    assert bool(crossings["out"]) == (name == "one_way_partition")


def test_crash() -> None:
    counts = set()
    for seed in range(4):
        run = Stricter("crash", seed=seed)
        crashed = {machine.address for machine in run.machines if machine.crashed}
        counts.add(len(crashed))
        assert {record.node for record in run.of(FaultBegun)} == crashed
        for record in run.of(TimerFired):
            assert record.node not in crashed or record.time_ns <= max(fault.time_ns for fault in run.of(FaultBegun))
    assert counts <= {1, 2}
    assert 2 in counts


def test_pause() -> None:
    run = Stricter("pause")
    assert max(run.longest_silence().values()) > 10 * INTERVAL_NS
    assert {record.reason for record in run.of(Dropped)} <= {"queue full"}


def test_slow() -> None:
    late = Stricter("slow").late()
    assert any(late)


def test_the_same_seed_strikes_in_the_same_way() -> None:
    assert Stricter(*FAULTS, seed=3).records == Stricter(*FAULTS, seed=3).records
    assert Stricter(*FAULTS, seed=3).records != Stricter(*FAULTS, seed=4).records


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'losses' is not a fault; there are loss, "):
        check_names(["loss", "losses"])
